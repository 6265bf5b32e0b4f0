"""What the tests of the targets share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

WriteBoard = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteBoard:
    """Writes a board file: `write("name = …", "own.toml")`."""

    def write_text(text: str, name: str = "own.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_text
