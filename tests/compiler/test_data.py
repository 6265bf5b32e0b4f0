"""The data file: strict reading, honest division."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import resource
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler import mapped
from edgewright.compiler.data import (
    MAX_CALIBRATION_SAMPLES,
    MAX_SAMPLES,
    Samples,
    as_model_inputs,
    dataset,
    load_arrays,
    sample_hashes,
    split_by_hash,
)
from edgewright.compiler.faults import DataError
from edgewright.compiler.graph import Port
from edgewright.compiler.mapped import LARGEST_IN_MEMORY_BYTES
from edgewright.targets.faults import EnvironmentFault


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60), st.randoms())
@settings(max_examples=50, deadline=None)
def test_split_depends_on_each_sample_alone(values: list[int], random: object) -> None:
    x = np.array(values, dtype=np.int64)[:, None]
    order = np.array(random.sample(range(len(values)), len(values)))  # type: ignore[attr-defined]
    assert (split_by_hash({"x": x})[order] == split_by_hash({"x": x[order]})).all()


def test_equal_samples_never_stand_on_both_sides() -> None:
    x = np.repeat(np.arange(50, dtype=np.float32)[:, None], 4, axis=0)
    parts = split_by_hash({"x": x}).reshape(50, 4)
    assert (parts == parts[:, :1]).all()


def test_split_shares_are_as_documented() -> None:
    parts = split_by_hash({"x": np.arange(8000, dtype=np.int64)[:, None]})
    assert np.mean(parts == "calibrate") == pytest.approx(0.25, abs=0.02)
    assert np.mean(parts == "tune") == pytest.approx(0.25, abs=0.02)
    # The hash is part of the format: another one would move samples between parts of old builds.
    assert parts[:6].tolist() == ["test", "calibrate", "tune", "test", "tune", "test"]


def test_given_split_is_obeyed(tmp_path: Path) -> None:
    split = np.array(["calibrate", "tune", "test", "test"])
    found = dataset(tmp_path, {"x": np.arange(4.0)[:, None], "split": split, "extra": np.zeros(1)}, "d", ("in",))
    assert found.test.inputs["in"].ravel().tolist() == [2, 3]
    assert found.ignored == ("extra",)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"z": np.zeros((9, 1))}, "no array for input 'in'"),
        ({"x": np.zeros((9, 1)), "y": np.zeros(8)}, "'y' has shape"),
        ({"x": np.full((9, 1), np.nan)}, "NaN"),
        ({"x": np.array([["a"]] * 9)}, "numbers"),
        ({"x": np.zeros((9, 1)), "split": np.array(["train"] * 9)}, "'train'"),
        ({"x": np.zeros((9, 1)), "split": np.zeros(9)}, "words"),
        ({"x": np.zeros((9, 1)), "split": np.array([b"\xff"] * 9)}, "bytes that are no words"),
        ({"x": np.zeros((1, 1))}, "no sample for the part"),
        ({"x": np.float32(1)}, r"'in' has shape \(\), expected samples in front"),
        ({"x": np.zeros((3, 1)), "split": np.array(["tune"] * 3)}, "no sample for the part"),
    ],
)
def test_data_that_does_not_fit_is_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(tmp_path, arrays, "d", ("in",))


def test_pickles_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "evil.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"not a readable \.npz"):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x93NUMPY"])
def test_what_is_no_npz_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.npz"):
        load_arrays(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for index in range(65):
            archive.writestr(f"{index}.npy", b"")
    with pytest.raises(DataError, match="65 arrays"):
        load_arrays(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../x.sh", b"")
    with pytest.raises(DataError, match="not an array"):
        load_arrays(path)


def test_values_are_cast_only_where_nothing_is_lost() -> None:
    port = Port("x", ir.DataType.UINT8, (-1, 2))
    fits = as_model_inputs(Samples({"x": np.array([[1.0, 255.0]])}, None), (port,))
    assert fits.inputs["x"].dtype == np.uint8
    for bad in ([[1.5, 0]], [[256, 0]], [[-1, 0]]):
        with pytest.raises(DataError, match="cannot hold"):
            as_model_inputs(Samples({"x": np.array(bad)}, None), (port,))
    with pytest.raises(DataError, match="expected samples of shape"):
        as_model_inputs(Samples({"x": np.zeros((3, 5))}, None), (port,))


def test_values_beyond_the_model_s_type_are_refused() -> None:
    port = Port("in", ir.DataType.FLOAT, (-1, 2))
    with pytest.raises(DataError, match="values that float32 cannot hold"):
        as_model_inputs(Samples({"in": np.full((3, 2), 1e300)}, None), (port,))


def test_a_device_is_no_data_file() -> None:
    with pytest.raises(DataError, match="/dev/zero: not a file"):
        load_arrays(Path("/dev/zero"))


def test_equal_samples_of_a_given_split_are_counted(tmp_path: Path) -> None:
    x = np.array([1, 2, 3, 1, 2, 9, 9], np.float32)[:, None]
    split = np.array(["calibrate", "tune", "tune", "test", "test", "test", "test"])
    assert dataset(tmp_path, {"x": x, "split": split}, "d", ("x",)).overlap == 2
    assert dataset(tmp_path, {"x": np.arange(99.0)[:, None]}, "d", ("x",)).overlap == 0


@given(st.randoms())
@settings(max_examples=20, deadline=None)
def test_calibration_does_not_depend_on_the_order_of_the_file(random: object) -> None:
    x = np.arange(100, dtype=np.float32)[:, None]
    order = np.array(random.sample(range(100), 100))  # type: ignore[attr-defined]
    split = np.array(["calibrate", "tune", "test", "calibrate"] * 25)
    for arrays in ({"x": x}, {"x": x, "split": split}):
        shuffled = {name: array[order] for name, array in arrays.items()}
        found = dataset(Path("d"), shuffled, "d", ("x",)).calibrate.inputs["x"]
        assert found.tolist() == dataset(Path("d"), arrays, "d", ("x",)).calibrate.inputs["x"].tolist()


def test_the_calibration_samples_that_are_left_out_are_those_of_the_largest_hashes() -> None:
    x = np.arange(MAX_CALIBRATION_SAMPLES + 100, dtype=np.float32)[:, None]
    split = np.array(["calibrate"] * (len(x) - 2) + ["tune", "test"])
    found = dataset(Path("d"), {"x": x, "split": split}, "d", ("x",)).calibrate
    assert len(found) == MAX_CALIBRATION_SAMPLES
    hashes = sample_hashes({"x": x[:-2]})
    assert sample_hashes(found.inputs).tolist() == sorted(hashes.tolist())[:MAX_CALIBRATION_SAMPLES]


ARRAYS: dict[str, np.ndarray] = {
    "a": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "turned": np.asfortranarray(np.arange(24, dtype=np.int8).reshape(6, 4)),
    "big_endian": np.arange(5, dtype=">f4"),
    "words": np.array(["calibrate", "tune"]),
    "scalar": np.array(3.5),
    "nothing": np.zeros((0, 7), np.float32),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_written(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "data.npz", **ARRAYS)
    found, digest = load_arrays(tmp_path / "data.npz")
    assert digest == f"sha256:{hashlib.sha256((tmp_path / 'data.npz').read_bytes()).hexdigest()}"
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tolist() == array.tolist()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_a_damaged_byte_is_found_or_harmless(save: Callable[..., None], place: int, value: int) -> None:
    buffer = io.BytesIO()
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    save(buffer, x=x)
    content = bytearray(buffer.getvalue())
    content[place % len(content)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        path.write_bytes(content)
        try:
            found, _ = load_arrays(path)
        except DataError:
            return
    assert all(array.tolist() == x.tolist() for array in found.values())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_far_inside_is_found(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "data.npz"
    save(path, x=np.random.default_rng(0).normal(size=100_000))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable"):
        load_arrays(path)


def member(header: bytes, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000,)}\n", bytes(8)), "header speaks of"),
        (member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -2)}\n", bytes(8)), "impossible shape"),
        (member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}\n", bytes(4)), "impossible shape"),
        (member(b"(" * 5000 + b"\n", bytes(8)), "no dictionary"),
        (member(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", bytes(8)), "not an array of numbers"),
        (member(b"{'descr': '<f4'}\n", bytes(8)), "not a readable"),
        (member(b"{}\n", b"", b"\x09\x00"), "version"),
        (b"", "not a readable"),
    ],
)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_lies_is_refused(tmp_path: Path, content: bytes, message: str, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w", method) as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=message):
        load_arrays(tmp_path / "d.npz")


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    content = member(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}\n", bytes(8))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("x.npy", content)
    with pytest.raises(DataError, match="there twice"):
        load_arrays(tmp_path / "d.npz")


def test_what_is_said_about_damage_is_short(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", member(b"[" * 1000 + b"]" * 1000 + b"\n", b""))
    with pytest.raises(DataError) as refusal:
        load_arrays(tmp_path / "d.npz")
    assert len(str(refusal.value)) < 500


CUT_SHORT = """
import os, sys
from pathlib import Path
from edgewright.compiler.data import load_arrays
path = Path(sys.argv[1])
arrays, _ = load_arrays(path)
os.truncate(path, 0)
print(int(arrays["x"].sum()), len(arrays["x"]))
"""


def test_a_file_that_is_cut_short_later_does_no_harm(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones(1_000_000, np.float32))
    command = [sys.executable, "-c", CUT_SHORT, str(tmp_path / "d.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, "1000000 1000000\n"), done.stderr


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path, read = tmp_path / "d.npz", threading.Event()
    np.savez(path, x=np.ones(4_000_000, np.float32))

    def touch() -> None:
        turn = 0
        while not read.is_set():
            turn += 1
            os.utime(path, ns=(turn, turn))

    writer = threading.Thread(target=touch)
    writer.start()
    try:
        with pytest.raises(DataError, match="changed while it was read"):
            load_arrays(path)
    finally:
        read.set()
        writer.join()


def test_more_samples_than_anyone_has_are_refused() -> None:
    x = np.broadcast_to(np.float32(1), (MAX_SAMPLES + 1, 1))
    with pytest.raises(DataError, match="10000001 samples; at most"):
        dataset(Path("d"), {"x": x}, "d", ("in",))


def test_unusual_packing_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", b"")
    with pytest.raises(DataError, match="packed by method 14"):
        load_arrays(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("shape", "given_shape", "advice"),
    [
        ((-1, 3, 32, 30), (5, 32, 30, 3), r"numpy\.transpose\(array, \(0, 3, 1, 2\)\)"),
        ((-1, 32, 30, 3), (5, 3, 32, 30), r"numpy\.transpose\(array, \(0, 2, 3, 1\)\)"),
        ((-1, 49, 10), (5, 10, 49), r"numpy\.transpose\(array, \(0, 2, 1\)\)"),
        ((-1, 3, 32, 30), (5, 32, 31, 3), r"has \(32, 31, 3\)$"),
        ((-1, 3), (5, 4), r"has \(4,\)$"),
    ],
)
def test_axes_in_another_order_are_named(shape: tuple[int, ...], given_shape: tuple[int, ...], advice: str) -> None:
    port = Port("x", ir.DataType.FLOAT, shape)
    with pytest.raises(DataError, match=advice):
        as_model_inputs(Samples({"x": np.zeros(given_shape, np.float32)}, None), (port,))


def test_arrays_in_another_byte_order_or_layout_are_put_right() -> None:
    port = Port("x", ir.DataType.FLOAT, (-1, 3))
    raw = np.frombuffer(b"\0" + np.arange(6, dtype=np.float32).tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3)
    for array in (raw, raw.astype(">f4"), np.asfortranarray(raw)):
        found = as_model_inputs(Samples({"x": array}, None), (port,)).inputs["x"]
        assert found.flags.c_contiguous
        assert found.flags.aligned
        assert found.dtype == np.float32
        assert found.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_large_arrays_lie_in_files() -> None:
    rows = np.arange(3 * LARGEST_IN_MEMORY_BYTES // 400).repeat(100).reshape(-1, 100).astype(np.float32)
    order = np.arange(len(rows))[::-1]
    found = Samples({"x": rows}, None).take(order).inputs["x"]
    assert np.array_equal(found, rows[::-1])
    room = found.base.base  # type: ignore[union-attr]
    assert isinstance(room, memoryview)
    assert isinstance(room.obj, mmap.mmap)


def test_no_room_for_a_large_array_is_said() -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(EnvironmentFault, match=r"no room for \d+ bytes of samples in .*TMPDIR"):
            mapped.empty((LARGEST_IN_MEMORY_BYTES + 1,), np.uint8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_folder_for_large_arrays_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones(LARGEST_IN_MEMORY_BYTES + 1, np.int8))
    code = (
        "import resource, sys; from pathlib import Path; from edgewright.compiler.data import load_arrays\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "load_arrays(Path(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "d.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert "EnvironmentFault: no room for 16777217 bytes of samples in a temporary folder" in done.stderr


MEASURED = """
import sys
from dataclasses import replace
from pathlib import Path
from edgewright.compiler.data import as_model_inputs, dataset, load_arrays
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.graph import signature
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.scratch import Scratch

def anonymous_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])

graph = load_onnx(Path(sys.argv[1])).graph
before = peak = anonymous_bytes()
def look(_):
    global peak
    peak = max(peak, anonymous_bytes())
path = Path(sys.argv[2])
arrays, digest = load_arrays(path)
look(0)
found = dataset(path, arrays, digest, ("x",))
look(0)
inputs = as_model_inputs(found.calibrate, signature(graph).inputs)
look(0)
with Scratch(path.parent / "scratch") as scratch:
    collect(graph, inputs, scratch, look)
print(len(inputs), peak - before)
"""


@pytest.mark.parametrize("save", [np.savez, pytest.param(np.savez_compressed, marks=pytest.mark.slow)])
def test_ten_thousand_samples_are_calibrated_on_in_bounded_memory(tmp_path: Path, save: Callable[..., None]) -> None:
    """400 MB of data, as float16; as float32, the type that the model takes, they are 800 MB."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], ["c"], "c", strides=[4, 4], kernel_shape=[3, 3]),
                helper.make_node("Relu", ["c"], ["y"], "r"),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 82, 82])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 20, 20])],
            [numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "model.onnx")
    x = np.zeros((10_002, 3, 82, 82), np.float16)
    x[:, 0, 0, 0] = np.arange(len(x)) % 2000
    split = np.array(["calibrate"] * 10_000 + ["tune", "test"])
    save(tmp_path / "data.npz", x=x, split=split)
    del x
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "model.onnx"), str(tmp_path / "data.npz")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    count, grown = map(int, done.stdout.split())
    assert count == 10_000
    assert grown < 300e6
