"""Truths that are told later: which bodies are taken, and which bin a sample counts in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.labels import MAX_ROWS, Label, bin_of, parse_labels
from edgewright.runtime.server.refusal import Refusal

ROW = {"predicted": 3, "label": 5, "confidence": 0.8}


def test_rows_are_read() -> None:
    first, second = parse_labels(json.dumps({"rows": [ROW, {"predicted": "cat", "label": "cat"}]}).encode())
    assert (first.is_right, second.is_right) == (False, True)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"rows": 3}', b'{"rows": [{"predicted": 1}]}', b'{"rows": [], "more": 1}', b"\xff"],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_labels(body)
    assert caught.value.status == 400
    assert "expected" in str(caught.value)


def test_so_many_rows_are_refused() -> None:
    with pytest.raises(Refusal, match="at most"):
        parse_labels(json.dumps({"rows": [ROW] * (MAX_ROWS + 1)}).encode())


@given(st.floats(0, 1), st.lists(st.floats(0, 1), unique=True, max_size=10).map(sorted))
def test_the_bin_is_that_of_the_reference(confidence: float, edges: list[float]) -> None:
    """Bin i holds edges[i-1] <= value < edges[i]."""
    place = bin_of(Label(1, 1, confidence), edges)
    if edges:
        assert place == sum(edge <= confidence for edge in edges)


@pytest.mark.parametrize("confidence", [None, -0.1, 1.5, float("nan"), float("inf")])
def test_where_there_are_bins_a_confidence_is_needed(confidence: Any) -> None:
    with pytest.raises(Refusal, match="counted by it"):
        bin_of(Label(1, 1, confidence), (0.5,))
    assert bin_of(Label(1, 1, confidence), ()) == 0
