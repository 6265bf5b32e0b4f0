"""The JSON of an inference response: all but its numbers is the same each time, and is kept as it is spelled."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import msgspec

from ..pipeline import Note

encode = msgspec.json.Encoder().encode
_KEPT = 512
"""Spellings: names are the models', shapes may be many."""


@functools.lru_cache(_KEPT)
def first_output(model: str, version: str, name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """Return how an answer begins, up to the data of its first output or to their size."""
    return opening(model, version) + next_output(name, datatype, shape)[1:]


@functools.lru_cache(_KEPT)
def next_output(name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
    """Return what comes between the data of two outputs."""
    return b"," + encode({"name": name, "datatype": datatype, "shape": shape})[:-1]


def opening(model: str, version: str) -> bytes:
    """Return how an answer without outputs begins."""
    return encode({"model_name": model, "model_version": version, "outputs": []})[:-2]


def closing(identity: str | None, notes: Mapping[str, Note]) -> bytes:
    """Return how an answer with an id or notes ends behind its outputs."""
    more = {} if identity is None else {"id": identity}
    return b"]," + encode({**more, "parameters": notes} if notes else more)[1:]
