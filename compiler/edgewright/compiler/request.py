"""What a user asks for, checked as far as it can be without reading the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright.targets.board import Board
from edgewright.targets.catalog import load_board
from edgewright.targets.faults import UserFault

if TYPE_CHECKING:
    from .optimize.input_normalization import Normalization

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One run of `edgewright compile`."""

    model: str
    """Path of an ONNX file, or `package.module:function`."""
    weights: Path | None = None
    targets: tuple[str, ...]
    data: Path
    out: Path
    metric: str | None = None
    max_drop: str | None = None
    name: str | None = None
    version: str = "1"
    security_epoch: int = 0
    threads: int = 1
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    processing: Path | None = None
    """Steps before and after the model."""
    state: tuple[str, ...] = ()
    """Implicit state, each `INPUT=OUTPUT`."""
    measurements: Path | None = None
    plan: Path | None = None
    """A plan to use instead of proposing one."""
    engines: tuple[str, ...] | None = None
    """Engines that may ship, by name; None for all that a target has."""
    tune_s: float = 0.0
    """How long native kernels may be tuned on this machine, per net; 0 takes the best guess of each."""
    emit_c: bool = False
    """Whether the C source of native code is written too."""

    @property
    def from_torch(self) -> bool:
        """Whether the model is given as code."""
        return ":" in self.model and not Path(self.model).exists()

    @property
    def normalization(self) -> Normalization | None:
        """What to fold in front of the model; the datatype is that of the data."""
        if self.mean is None and self.scale is None:
            return None
        from .optimize.input_normalization import Normalization  # start-up time: the cache is asked first

        return Normalization(mean=self.mean or (0.0,), scale=self.scale or (1.0,))


class RequestError(UserFault):
    """The options do not fit together."""


def load_boards(targets: Sequence[str]) -> tuple[Board, ...]:
    """The boards of a run; two of one name would write the same file."""
    boards = tuple(load_board(target) for target in targets)
    names = [board.name for board in boards]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RequestError(f"--target {twice[0]} is given twice; each target makes one bundle")
    if not boards:
        raise RequestError("no --target; see `edgewright targets list`")
    return boards


def model_name(given: str | None, default: str) -> str:
    """The name under which devices know the model."""
    name = given if given is not None else re.sub(r"[^A-Za-z0-9._-]+", "-", default).strip("-._") or "model"
    if not MODEL_NAME.fullmatch(name):
        raise RequestError(f"--name {name!r}: expected up to 64 letters, digits, dots, dashes and underscores")
    return name


def check_version(version: str) -> str:
    """The release's version as it goes into the manifest."""
    if not VERSION.fullmatch(version):
        raise RequestError(f"--release-version {version!r}: expected up to 64 letters, digits, and . _ + -")
    return version
