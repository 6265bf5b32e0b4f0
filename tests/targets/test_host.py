"""The board `host`: what is read from recorded machines, and that its digest stays the same where the machine does."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.targets.accumulation import int8_accumulation
from edgewright.targets.board import Board
from edgewright.targets.catalog import BOARDS, load_board, similar_board
from edgewright.targets.faults import EnvironmentFault
from edgewright.targets.host import HostTexts, describe_host, detect_host

MACHINES = Path(__file__).parent / "machines"
GIB = 1024**3


def recorded(name: str, machine: str, *frequencies_khz: str) -> HostTexts:
    return HostTexts(
        machine=machine,
        cpuinfo=(MACHINES / name / "cpuinfo").read_text(),
        meminfo=(MACHINES / name / "meminfo").read_text(),
        max_frequencies_khz=frequencies_khz,
    )


@pytest.mark.parametrize(
    ("texts", "model", "cores", "clock_hz", "ram_gib", "has", "lacks", "u8s8", "similar"),
    [
        (
            recorded("raspberry-pi-4", "aarch64", "1800000\n"),
            "Cortex-A72", 4, 1_800_000_000, 4, "asimd", "asimddp", "exact", "raspberry-pi-4",
        ),
        (
            recorded("raspberry-pi-5", "aarch64", "2400000\n"),
            "Cortex-A76", 4, 2_400_000_000, 8, "asimddp", "i8mm", "exact", "raspberry-pi-5",
        ),
        (
            recorded("rk3588", "aarch64", "1800000\n", "2400000\n"),
            "Cortex-A55 + Cortex-A76", 8, 2_400_000_000, 16, "asimddp", "sve", "exact", "raspberry-pi-5",
        ),
        (
            recorded("raspberry-pi-4-32bit", "armv7l", "1500000\n"),
            "Cortex-A72", 4, 1_500_000_000, 4, "neon", "asimd", "exact", "raspberry-pi-4",
        ),
        (
            recorded("xeon-8163", "x86_64"),
            "Intel(R) Xeon(R) Platinum 8163 CPU @ 2.50GHz", 2, 2_500_000_000, 8, "avx512bw", "avx512_vnni",
            "saturating16", "x86-64-avx512",
        ),
        (
            recorded("epyc-zen4", "x86_64"),
            "AMD EPYC", 2, 2_600_000_000, 24, "avx512_vnni", "amx_int8", "exact", "x86-64-avx512-vnni",
        ),
    ],
)  # fmt: skip
def test_recorded_machines(
    texts: HostTexts, model: str, cores: int, clock_hz: int, ram_gib: int, has: str, lacks: str, u8s8: str, similar: str
) -> None:
    board = describe_host(texts)
    assert board.name == "host"
    assert (board.cpu.model, board.cpu.cores, board.cpu.clock_hz) == (model, cores, clock_hz)
    assert board.memory.ram_bytes == ram_gib * GIB
    assert has in board.cpu.isa
    assert lacks not in board.cpu.isa
    assert board.cpu.int8.u8s8 == u8s8
    assert similar_board(board) == similar


@pytest.mark.parametrize(
    ("texts", "engines"),
    [
        (recorded("epyc-zen4", "x86_64"), ["onnxruntime", "native", "litert", "openvino", "tvm"]),
        (recorded("raspberry-pi-5", "aarch64"), ["onnxruntime", "native", "litert", "openvino", "tvm"]),
        (recorded("raspberry-pi-4-32bit", "armv7l"), ["onnxruntime", "native", "litert"]),
    ],
)
def test_engines_go_by_architecture(texts: HostTexts, engines: list[str]) -> None:
    """Whether one is installed is the device's matter (docs/adr/0011): the board, and its digest, stay the same."""
    board = describe_host(texts)
    assert [support.name for support in board.engines] == engines
    assert all(board.supports(name, precision) for name in engines for precision in ("float32", "int8"))


@pytest.mark.parametrize("name", ["xeon-8163", "epyc-zen4"])
def test_what_changes_from_run_to_run_does_not_change_the_digest(name: str) -> None:
    before = recorded(name, "x86_64")
    cpuinfo = re.sub(r"cpu MHz\t\t: .*", "cpu MHz\t\t: 1234.5", before.cpuinfo)
    cpuinfo = re.sub(r"bogomips\t: (.*)\..*", r"bogomips\t: \1.99", cpuinfo).replace("0x1", "0x2").replace(" ibpb", "")
    meminfo = re.sub(r"MemFree: .*", "MemFree:  17 kB", before.meminfo)
    # Another kernel keeps some 20 MB more for itself.
    meminfo = re.sub(r"MemTotal: *(\d+)", lambda found: f"MemTotal:  {int(found[1]) - 20_000}", meminfo)
    after = HostTexts(machine="x86_64", cpuinfo=cpuinfo, meminfo=meminfo)
    assert (after.cpuinfo, after.meminfo) != (before.cpuinfo, before.meminfo)
    assert describe_host(after).digest() == describe_host(before).digest()


def test_more_memory_is_another_machine() -> None:
    before = recorded("raspberry-pi-4", "aarch64")
    after = recorded("raspberry-pi-5", "aarch64")
    changed = HostTexts(machine="aarch64", cpuinfo=before.cpuinfo, meminfo=after.meminfo)
    assert describe_host(changed).digest() != describe_host(before).digest()


def test_a_core_that_a_power_mode_switched_off_still_counts() -> None:
    texts = recorded("raspberry-pi-5", "aarch64")
    online = texts.cpuinfo.split("processor\t: 2")[0]
    described = describe_host(HostTexts(machine="aarch64", cpuinfo=online, present_cpus="0-1,2-3\n"))
    assert described.cpu.cores == 4


def test_only_what_every_core_can_do_is_promised() -> None:
    cpuinfo = (
        "processor : 0\nFeatures : fp asimd asimddp\n\nprocessor : 1\nFeatures : fp asimd\n\nHardware : something\n"
    )
    assert describe_host(HostTexts(machine="aarch64", cpuinfo=cpuinfo)).cpu.isa == ("asimd", "fp")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "armv7l"])
def test_a_sandbox_without_proc_still_gives_a_board(machine: str) -> None:
    board = describe_host(HostTexts(machine=machine, cpu_count=3))
    assert board.cpu.cores == 3
    assert board.cpu.isa == ()


def test_an_architecture_without_support_is_said_to_be_so() -> None:
    with pytest.raises(EnvironmentFault, match="this machine is riscv64; the target host needs one of aarch64"):
        describe_host(HostTexts(machine="riscv64"))


@given(
    cpuinfo=st.text(max_size=300), meminfo=st.text(max_size=100), present=st.text(max_size=20), khz=st.text(max_size=20)
)
def test_any_text_gives_a_valid_board(cpuinfo: str, meminfo: str, present: str, khz: str) -> None:
    texts = HostTexts(
        machine="aarch64", cpuinfo=cpuinfo, meminfo=meminfo, present_cpus=present, max_frequencies_khz=(khz,)
    )
    assert_valid(describe_host(texts))


@given(
    frequency=st.integers(0, 10**13), ram_kb=st.integers(0, 10**14), last_cpu=st.integers(0, 99_999),
    bogomips=st.integers(0, 10**9), name=st.text(max_size=200),
)  # fmt: skip
def test_any_number_gives_a_valid_board(frequency: int, ram_kb: int, last_cpu: int, bogomips: int, name: str) -> None:
    texts = HostTexts(
        machine="x86_64",
        cpuinfo=f"processor : 0\nvendor_id : {name}\nmodel name : {name}\nflags : avx2\nbogomips : {bogomips}.00\n",
        meminfo=f"MemTotal:  {ram_kb} kB\n",
        present_cpus=f"0-{last_cpu}",
        max_frequencies_khz=(str(frequency),) if frequency % 2 else (),
    )
    assert_valid(describe_host(texts))


def assert_valid(board: Board) -> None:
    """Holds against every bound of the format, which constructing a struct does not check."""
    import msgspec

    assert msgspec.convert(msgspec.to_builtins(board), Board, strict=True) == board


def test_detection_reads_below_the_given_root_and_ignores_limits_of_the_process(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    for name in ("cpuinfo", "meminfo"):
        (proc / name).write_text((MACHINES / "xeon-8163" / name).read_text())
    plain = detect_host(root=tmp_path)
    cgroup = tmp_path / "sys/fs/cgroup"
    cgroup.mkdir(parents=True)
    (cgroup / "memory.max").write_text("268435456\n")
    (cgroup / "cpu.max").write_text("50000 100000\n")
    assert detect_host(root=tmp_path).digest() == plain.digest()
    if platform.machine() == "x86_64":
        assert plain.memory.ram_bytes == 8 * GIB


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="this machine is itself no target")
def test_this_machine_is_detected_twice_alike() -> None:
    assert detect_host() == detect_host()
    assert load_board("host").latency


@pytest.mark.parametrize("name", sorted(path.stem for path in BOARDS.glob("*.toml")))
def test_shipped_boards_agree_with_the_rule_for_int8(name: str) -> None:
    board = load_board(name)
    assert board.cpu.int8 == int8_accumulation(board.arch, board.cpu.isa)
