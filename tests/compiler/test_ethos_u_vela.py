"""Vela itself, on models of a few kilobytes: what it takes, what it leaves, and how it fails."""

from __future__ import annotations

import csv
import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from edgewright.compiler.faults import ToolchainMissing
from edgewright.compiler.lower.ethos_u.build import compile_once, vela_of
from edgewright.compiler.lower.ethos_u.faults import VelaFault
from edgewright.compiler.lower.ethos_u.summary import read_summary
from edgewright.compiler.lower.ethos_u.vela import checked_version, command, last_words, run_vela
from edgewright.compiler.tflite.file.model import Model
from edgewright.compiler.tflite.file.write import write
from edgewright.targets.board import Vela
from edgewright.targets.catalog import load_board
from tests.compiler import ethos_u_nets as nets

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="needs ethos-u-vela")

NPUS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-{series}-{macs}" for series in ("u65", "u85") for macs in (256, 512)),
    "imx93",
)
SHARED = Path(__file__).resolve().parents[3] / "shared/data"
MODELS = {"kws": "kws_ref_model_int8", "ic": "pretrainedResnet_int8", "vww": "vww_96_int8", "ad": "ad01_int8"}
U55 = vela_of(load_board("ethos-u55-128"))


def left(model: Model, target: str, scratch: Path) -> list[tuple[str, str]]:
    """(type, reason) of what stays on the CPU."""
    optimised = compile_once(write(model), model, vela_of(load_board(target)), scratch)
    return [(operator.tflite_type, operator.reason) for operator in optimised.on_cpu]


@pytest.mark.parametrize("target", NPUS)
def test_every_target_takes_a_convolution(target: str, tmp_path: Path) -> None:
    vela = vela_of(load_board(target))
    model = nets.convolution()
    optimised = compile_once(write(model), model, vela, tmp_path)
    assert optimised.on_cpu == ()
    assert optimised.summary.accelerator.lower().replace("_", "-") == vela.accelerator_config
    assert optimised.summary.system_config == vela.system_config
    assert optimised.summary.memory_mode == vela.memory_mode
    accelerator = load_board(target).accelerators[0]
    assert optimised.summary.clock_hz == accelerator.clock_hz
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "kind", "reason"),
    [
        (nets.convolution(5), "CONV_2D", "Unsupported kernel stride: 5, 5"),
        (nets.depthwise(5), "DEPTHWISE_CONV_2D", "Unsupported kernel stride: 5, 5"),
        (nets.gather([2, 0]), "GATHER", "Unsupported opType"),
        (nets.mean([3]), "MEAN", "Unsupported depth-reduction.  IFM: 1, 8, 8, 4"),
        (nets.mean([1, 2], (2, 8, 8, 4)), "MEAN", "Batch > 1: 2, 8, 8, 4"),
        (nets.blocks("SPACE_TO_DEPTH"), "SPACE_TO_DEPTH", "Unsupported opType"),
        (
            nets.nearest(24, 24),
            "RESIZE_NEAREST_NEIGHBOR",
            "Scaling matches and operation has unsupported scale-factor=3",
        ),
    ],
)
def test_what_an_ethos_u55_leaves_and_why(model: Model, kind: str, reason: str, tmp_path: Path) -> None:
    assert left(model, "ethos-u55-128", tmp_path) == [(kind, reason)]


def test_an_ethos_u85_has_other_reasons(tmp_path: Path) -> None:
    assert left(nets.gather([2, 0]), "ethos-u85-256", tmp_path) == [("GATHER", "axis: 3 != batch_dims: 0")]
    assert left(nets.convolution(5), "ethos-u85-256", tmp_path) == []


@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_float_ports_stay_on_the_cpu(target: str, tmp_path: Path) -> None:
    assert left(nets.float_ports(), target, tmp_path) == [
        ("QUANTIZE", "Operation has tensor with unsupported DataType Float32 (in)"),
        ("DEQUANTIZE", "Unsupported opType"),
    ]


@pytest.mark.parametrize("name", sorted(nets.ON_THE_NPU))
def test_what_needs_no_rewrite_runs_on_every_series(name: str, tmp_path: Path) -> None:
    for target in ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256"):
        assert left(nets.ON_THE_NPU[name], target, tmp_path) == []


def test_the_same_bytes_give_the_same_bytes(tmp_path: Path) -> None:
    content = write(nets.two_on_cpu())
    first, second = (run_vela(content, U55, tmp_path) for _ in range(2))
    assert first.model == second.model
    assert first.summary == second.summary


def test_a_cache_size_of_ones_own_is_passed_on() -> None:
    vela = msgspec.structs.replace(U55, memory_mode="Dedicated_Sram", arena_cache_size_bytes=131_072)
    assert list(command(Path("x/n.tflite"), vela))[-2:] == ["--arena-cache-size", "131072"]
    assert "--arena-cache-size" not in command(Path("x/n.tflite"), U55)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot mmap an empty file"),
        (b"x" * 100, "No networks defined"),
        (write(nets.padded_convolution()), r"Non-passthrough operation \(Conv2D\) could not run on NPU"),
    ],
)
def test_what_vela_refuses_is_told_in_its_last_words(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(VelaFault, match=f"Vela refuses this model: .*{words}") as caught:
        run_vela(content, U55, tmp_path)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_time_is_limited(tmp_path: Path) -> None:
    with pytest.raises(VelaFault, match=r"did not end within 0\.01 s"):
        run_vela(write(nets.convolution()), U55, tmp_path, limit_s=0.01)
    assert list(tmp_path.iterdir()) == []


def test_configurations_that_are_not_in_the_file_are_refused(tmp_path: Path) -> None:
    """The names in targets.board are those of the file that comes with the package."""
    wrong = msgspec.structs.replace(U55, system_config="Ethos_U95")
    with pytest.raises(VelaFault, match=r"Section System_Config\.Ethos_U95 not found"):
        run_vela(write(nets.convolution()), wrong, tmp_path)


def test_every_name_that_a_board_may_have_is_in_velas_file() -> None:
    names = {section for field in msgspec.structs.fields(Vela) for section in getattr(field.type, "__args__", ())}
    spec = importlib.util.find_spec("ethosu.vela")
    assert spec is not None
    assert spec.origin is not None
    text = (Path(spec.origin).parents[1] / "config_files/Arm/vela.ini").read_text()
    sections = {line.strip("[]").partition(".")[2] for line in text.splitlines() if line.startswith("[")}
    assert {name for name in names if isinstance(name, str) and "_" in name} == sections


@pytest.mark.parametrize("version", ["4.5.0", "5.1.0", "6.0.0", "unknown"])
def test_other_versions_are_refused(version: str) -> None:
    with pytest.raises(ToolchainMissing, match=rf"needs ethos-u-vela >=5\.2,<6, and {version} is installed here: pip"):
        checked_version(version)
    assert checked_version("5.12.1rc1") == "5.12.1rc1"


def test_a_traceback_ends_in_what_went_wrong() -> None:
    assert last_words(
        "Traceback (most recent call last):\n  File 'x', line 1\n    ^^^^\nValueError: no\x1b[1m.\n\n"
    ) == ("ValueError: no[1m")
    assert last_words("") == "it said nothing"


def test_an_error_with_a_name_is_told_with_what_follows() -> None:
    said = "RuntimeError: Compilation failed: Error: ARGMAX 'y' is wrong.\n - IFM has to be 8bit\n\nFailed to parse\n"
    assert last_words(said) == "ARGMAX 'y' is wrong. - IFM has to be 8bit Failed to parse"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_an_interrupted_run_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    model = tmp_path / "big.tflite"
    model.write_bytes(write(nets.convolution(1, 3, 2_000)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "import sys, pathlib\n"
        "from edgewright.compiler.lower.ethos_u.vela import run_vela\n"
        "from edgewright.compiler.lower.ethos_u.build import vela_of\n"
        "from edgewright.targets.catalog import load_board\n"
        "vela = vela_of(load_board('ethos-u55-32'))\n"
        "content = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "print('ready', flush=True)\n"
        "while True:\n    run_vela(content, vela, pathlib.Path(sys.argv[2]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(model), str(scratch)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        process.stdout.readline()
        end_s = time.monotonic() + 60
        while not (children := children_of(process.pid)) and time.monotonic() < end_s:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.stdout.close()
    assert children
    while any(Path(f"/proc/{child}").exists() for child in children):  # until it is reaped
        assert time.monotonic() < end_s + 60
        time.sleep(0.05)
    assert list(scratch.iterdir()) == []


def children_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent:
                found.append(int(entry.name))
    return found


def anchors() -> list[dict[str, str]]:
    path = SHARED / "anchors/ethosu_vela_5.2.0_summaries.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["key"] in MODELS]


@pytest.mark.skipif(not anchors(), reason="needs ../shared/data")
@pytest.mark.parametrize("key", sorted(MODELS))
def test_cycles_are_those_on_record(key: str, tmp_path: Path) -> None:
    content = (SHARED / "mlperf_tiny/models" / f"{MODELS[key]}.tflite").read_bytes()
    rows = [row for row in anchors() if row["key"] == key]
    assert len(rows) == 5
    for row in rows:
        vela = vela_of(load_board(row["accelerator_configuration"].lower().replace("_", "-")))
        assert (vela.system_config, vela.memory_mode) == (row["system_config"], row["memory_mode"])
        summary = read_summary(run_vela(content, vela, tmp_path).summary)
        assert summary.total_cycles == int(row["cycles_total"])
        assert summary.npu_cycles == int(row["cycles_npu"])
        assert summary.inference_s == float(row["inference_time"])
        assert summary.sram_bytes == float(row["sram_memory_used"]) * 1024
        assert summary.off_chip_flash_bytes == float(row["off_chip_flash_memory_used"]) * 1024
        assert summary.encoded_weight_bytes == int(row["total_npu_encoded_weights"])
