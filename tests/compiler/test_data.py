"""The data file: strict reading, honest division."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.data import Samples, as_model_inputs, dataset, load_arrays, split_by_hash
from edgewright.compiler.faults import DataError
from edgewright.compiler.graph import Port


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
