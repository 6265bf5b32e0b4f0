"""Exported C builds alone: with one line, with CMake, from elsewhere, and twice in one program."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.lower.native.export import export_c, write_c
from tests.compiler.native.cross import dense_net, random_inputs, run_here, source_of
from tests.compiler.native.single_layer import HERE

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc: apt-get install gcc libc6-dev")
NET = dense_net()
SOURCE = source_of(NET, HERE)
INPUTS = random_inputs(NET)


def exported(folder: Path, prefix: str) -> Path:
    write_c(export_c(SOURCE, "a *small* `net`\n# x", HERE, prefix), folder)
    INPUTS["t0"].tofile(folder / "input.bin")
    return folder


def said(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("prefix", ["edgewright", "kws"])
def test_the_line_in_the_readme_builds_and_runs(prefix: str, tmp_path: Path) -> None:
    folder = exported(tmp_path / "c", prefix)
    (line,) = re.findall(r"^\$ (cc .*)$", (folder / "README.md").read_text(), re.MULTILINE)
    said(["sh", "-c", line.replace("cc ", "gcc -Wall -Wextra -Wno-psabi ", 1)], folder)
    assert "input t0 FP32 7x19" in said(["./example"], folder)
    printed = said(["./example", "input.bin", "-n", "3"], folder).splitlines()
    assert printed[0] == "output t3 FP32 7x5"
    expected = run_here(SOURCE, HERE, INPUTS)["t3"]
    np.testing.assert_array_equal(np.array(printed[1:], np.float32), expected.ravel())


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake: apt-get install cmake")
def test_two_models_in_one_program_built_by_cmake_from_elsewhere(tmp_path: Path) -> None:
    for prefix in ("first", "second"):
        exported(tmp_path / prefix, prefix)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(both C)\nadd_subdirectory(first)\nadd_subdirectory(second)\n"
        "add_executable(both both.c)\ntarget_link_libraries(both first_model second_model)\n"
    )
    (tmp_path / "both.c").write_text(
        '#include "first.h"\n#include "second.h"\nint main(void) {\n'
        "    return first_describe() == second_describe() || first_describe()->abi != second_describe()->abi;\n}\n"
    )
    said(["cmake", "-B", "build"], tmp_path)
    said(["cmake", "--build", "build"], tmp_path)
    said([str(tmp_path / "build" / "both")], tmp_path / "build")
    out = tmp_path / "out.bin"
    said([str(tmp_path / "build/second/second_example"), "second/input.bin", "-o", str(out)], tmp_path)
    assert out.read_bytes() == run_here(SOURCE, HERE, INPUTS)["t3"].tobytes()


def test_files_that_do_not_fit_are_refused_by_the_example(tmp_path: Path) -> None:
    folder = exported(tmp_path, "edgewright")
    said(["sh", "-c", re.findall(r"^\$ (cc .*)$", (folder / "README.md").read_text(), re.MULTILINE)[0]], folder)
    for size, complaint in ((7 * 19 * 4 - 1, "shorter"), (7 * 19 * 4 + 1, "longer")):
        (folder / "x").write_bytes(bytes(size))
        done = subprocess.run(["./example", "x"], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, complaint in done.stderr) == (1, True)


@pytest.mark.parametrize("prefix", ["", "2x", "a-b", "ü", "a" * 64])
def test_a_prefix_has_to_be_an_identifier(prefix: str) -> None:
    with pytest.raises(ValueError, match="C identifier"):
        export_c(SOURCE, "net", HERE, prefix)
