"""Where a build writes before it has results."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.compiler.scratch import Scratch


def test_a_relative_folder_is_found_from_other_folders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What people type: `--out build`. Vela and TVM run elsewhere and get names of files in it.
    monkeypatch.chdir(tmp_path)
    with Scratch(Path("build")) as scratch:
        assert scratch.folder().is_absolute()
        assert scratch.new_file(".onnx").parent.samefile(next((tmp_path / "build").iterdir()))
    assert list(tmp_path.iterdir()) == []
