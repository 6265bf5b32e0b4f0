"""What a compiler that ended early says about its input."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edgewright.compiler.lower.native.toolchain_process import CompilerEnded, filled_the_disk, run_all


@pytest.mark.parametrize(("said", "full"), [("OSError: [Errno 28] No space left on device", True), ("no form", False)])
def test_a_full_disk_is_told_from_a_model_that_is_refused(said: str, full: bool, tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"import sys; sys.exit({said!r})"]
    with pytest.raises(CompilerEnded) as ended:
        run_all([command], tmp_path, {"TMPDIR": str(tmp_path)}, 60)
    assert filled_the_disk(ended.value, tmp_path) is full
