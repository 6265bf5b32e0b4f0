"""The compilers: which is taken, what they make, and what is left when they fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from edgewright.compiler.lower.native.machine import Machine, machine_for
from edgewright.compiler.lower.native.shared_object import check_shared_object, undefined_symbols
from edgewright.compiler.lower.native.toolchain import GeneratedCodeRejected, build
from edgewright.compiler.lower.native.toolchain_choice import Toolchain, find_toolchain, toolchains
from edgewright.compiler.lower.native.toolchain_options import isa_options
from edgewright.compiler.lower.native.toolchain_process import CompilerEnded, run_all
from edgewright.targets.faults import EnvironmentFault
from tests.compiler.native.cross import ARM7, ARM7_FMA, AVX2, NEON, NEON_DOT, NEON_I8MM, small_source
from tests.compiler.native.single_layer import HERE, PLAIN

MACHINES = (HERE, AVX2, PLAIN, NEON, NEON_DOT, NEON_I8MM, ARM7, ARM7_FMA)
PAIRS = [
    pytest.param(machine, toolchain, id=f"{machine.name}-{toolchain.name}")
    for machine in MACHINES
    for toolchain in toolchains(machine.arch)
]
EMPTY = {"model.c": b"int edgewright_describe(void) { return 0; }\n"}


@pytest.mark.parametrize(("machine", "toolchain"), PAIRS)
def test_the_same_bytes_in_any_folder_and_environment(
    machine: Machine, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_source(machine)
    first, second = tmp_path / "a", tmp_path / "another" / "much longer folder"
    first.mkdir()
    second.mkdir(parents=True)
    made = build(source.files, machine, first, toolchain).read_bytes()
    monkeypatch.setenv("CPATH", "/nonexistent")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.chdir(tmp_path)
    assert build(source.files, machine, Path("another/much longer folder"), toolchain).read_bytes() == made
    assert str(tmp_path).encode() not in made
    assert {path.name for path in first.iterdir()} == {*source.files, "model.so"}


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (b"float rintf(float); float f(float x) { return rintf(x); }", "calls rintf"),
        (b"__attribute__((constructor)) static void early(void) {}", "run code"),
        (b'__asm__(".section .note.GNU-stack,\\"x\\"");', "stack"),
    ],
)
def test_what_must_not_ship_is_refused(code: bytes, complaint: str, tmp_path: Path) -> None:
    files = {"model.c": EMPTY["model.c"] + code.replace(b"float f", b'__attribute__((visibility("default"))) float f')}
    options = ["-shared", "-fPIC", "-nostdlib", "-o", "model.so", "model.c"]
    (tmp_path / "model.c").write_bytes(files["model.c"])
    compiler = find_toolchain(HERE)
    subprocess.run(
        [*compiler.command, *options, *(["-Wl,-z,execstack"] if b"stack" in code else [])], cwd=tmp_path, check=True
    )
    with pytest.raises(ValueError, match=complaint):
        check_shared_object(tmp_path / "model.so")


def test_a_call_of_the_c_library_stops_the_build(tmp_path: Path) -> None:
    code = b'void *malloc(unsigned long); void *edgewright_describe(void) __attribute__((visibility("default")));'
    files = {"model.c": code + b"void *edgewright_describe(void) { return malloc(4); }"}
    with pytest.raises(GeneratedCodeRejected, match="malloc, which a device need not have"):
        build(files, HERE, tmp_path)


def test_code_that_does_not_compile_is_kept_and_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / "build"
    folder.mkdir()
    with pytest.raises(GeneratedCodeRejected, match=r"a bug of ours.*error: ") as caught:
        build({"model.c": b"int x = ;\n", "weights.bin": b"1"}, HERE, folder)
    (kept,) = (path for path in tmp_path.iterdir() if path != folder)
    assert str(kept) in str(caught.value)
    assert [path.name for path in kept.iterdir()] == ["model.c"]
    assert {path.name for path in folder.iterdir()} == {"model.c", "weights.bin"}


def test_what_is_linked_needs_nothing(tmp_path: Path) -> None:
    path = build(small_source(HERE).files, HERE, tmp_path)
    assert undefined_symbols(path) <= {"memcpy", "memset", "__stack_chk_fail"}


def test_the_stack_is_protected(tmp_path: Path) -> None:
    code = b"""void use(char *text);
    __attribute__((visibility("default"))) void edgewright_describe(int n) {
        char t[64];
        __builtin_memset(t, n, n);
        use(t);
    }
    __attribute__((noinline)) void use(char *text) { __asm__ volatile("" : : "r"(text) : "memory"); }
    """
    assert "__stack_chk_fail" in undefined_symbols(build({"model.c": code}, HERE, tmp_path))


def test_features_are_spelled_for_each_compiler() -> None:
    assert isa_options(NEON_I8MM, "zig") == ("-mcpu=generic+dotprod+i8mm",)
    assert isa_options(NEON_DOT, "gcc") == ("-march=armv8-a+dotprod",)
    assert isa_options(ARM7_FMA, "zig") == ("-mcpu=generic+v7a+neon+vfp4",)
    assert isa_options(PLAIN, "gcc") == ()
    assert "-mprefer-vector-width=512" in isa_options(
        machine_for("x86_64", frozenset(AVX2.isa) | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}), "gcc"
    )


def test_a_compiler_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    command = ["sh", "-c", f"sleep 61 & echo $! > {tmp_path}/child; wait"]
    with pytest.raises(CompilerEnded) as caught:
        run_all([command], tmp_path, {**os.environ, "TMPDIR": str(tmp_path)}, 0.3)
    assert caught.value.status is None
    assert_gone(int((tmp_path / "child").read_text()))


def test_nothing_runs_on_after_an_interruption(tmp_path: Path) -> None:
    """As Ctrl-C does it: the signal goes to the interpreter, which leaves its `with` blocks."""
    code = f"""
import os
from pathlib import Path
from edgewright.compiler.lower.native.toolchain_process import run_all
command = ["sh", "-c", "echo $$ > {tmp_path}/child; sleep 61"]
run_all([command], Path("{tmp_path}"), dict(os.environ, TMPDIR="{tmp_path}"), 60)
"""
    python = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    child = tmp_path / "child"
    while not (child.exists() and child.read_text().strip()):
        time.sleep(0.01)
    python.send_signal(signal.SIGINT)
    assert python.wait(60) != 0
    assert_gone(int(child.read_text()))


def test_a_full_disk_is_no_bug_of_ours(tmp_path: Path) -> None:
    script = tmp_path / "full"
    script.write_text("#!/bin/sh\necho 'fatal error: error writing to x.s: No space left on device' >&2\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(EnvironmentFault, match="disk is full"):
        build(EMPTY, HERE, tmp_path, Toolchain("gcc", "gcc 12", (str(script),)))


def test_without_a_compiler_the_line_to_type_is_said(tmp_path: Path) -> None:
    """In an interpreter of its own: without the packages, and with no program in the path."""
    code = """
from edgewright.compiler.faults import ToolchainMissing
from edgewright.compiler.lower.native.machine import machine_for
from edgewright.compiler.lower.native.toolchain_choice import find_toolchain
import sys
sys.modules["ziglang"] = None
try:
    find_toolchain(machine_for("aarch64", frozenset()))
except ToolchainMissing as error:
    print(error.exit_code, error)
"""
    environment = {**os.environ, "PATH": str(tmp_path)}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith("5 no C compiler for aarch64")
    assert "pip install 'edgewright[native]'" in said.stdout


def assert_gone(process: int) -> None:
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        try:
            os.kill(process, 0)
            if ") Z " in Path(f"/proc/{process}/stat").read_text():
                return
        except ProcessLookupError:
            return
        except FileNotFoundError:
            if Path("/proc/self").exists():  # it ended just now; elsewhere than on Linux only the signal tells
                return
        time.sleep(0.01)
    raise AssertionError(f"process {process} still runs")
