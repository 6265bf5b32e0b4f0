"""The guide's examples run as they stand there, against a real server."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from tests.runtime.client.conftest import Served

GUIDE = Path(__file__).parents[3] / "docs/guides/client.md"


@pytest.mark.parametrize("way", ["tcp", "unix", "tensors"])
def test_examples(served: Served, way: str) -> None:
    outcome = doctest.testfile(str(GUIDE), module_relative=False, globs={"url": getattr(served, way)})
    assert outcome.failed == 0
    assert outcome.attempted > 8
