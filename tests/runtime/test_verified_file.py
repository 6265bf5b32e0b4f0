"""Code that changes between check and load."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgewright.runtime.engines.protocol import ModelRefused
from edgewright.runtime.engines.verified_file import open_verified

from .engine_bundles import write_engine_bundle


def test_a_file_that_is_written_to_while_it_is_loaded_is_noticed(tmp_path: Path) -> None:
    manifest = write_engine_bundle(tmp_path / "b", "tvm", {"model/model.so": b"code"})
    with open_verified(tmp_path / "b", manifest) as file:
        file.check_unchanged()
        (tmp_path / "b/model/model.so").write_bytes(b"evil")
        with pytest.raises(ModelRefused, match="was written to while it was loaded"):
            file.check_unchanged()


def test_a_path_that_comes_to_name_another_file_changes_nothing(tmp_path: Path) -> None:
    manifest = write_engine_bundle(tmp_path / "b", "tvm", {"model/model.so": b"code"})
    path = tmp_path / "b/model/model.so"
    with open_verified(tmp_path / "b", manifest) as file:
        path.rename(tmp_path / "old")
        path.write_bytes(b"evil")
        assert Path(f"/proc/self/fd/{file.descriptor}").read_bytes() == b"code"
