"""`edgewright run`: from file to file, and every way in which the files can be wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from edgewright.runtime.batch_cli import run_command
from edgewright.targets.faults import EnvironmentFault, Fault, UserFault
from tests.runtime.small_bundle import SmallBundle, digits_bundle


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(run_command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_outputs_are_those_of_the_model(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    images = np.random.default_rng(1).uniform(size=(101, 64)).astype(np.float32)
    np.savez(tmp_path / "x.npz", image=images)
    for bundle in (digits_like_bundle.archive, digits_like_bundle.directory):
        arguments = ["--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--batch-size", 7, "--json"]
        summary = json.loads(invoke(bundle, *arguments))
        assert (summary["rows"], summary["batches"]) == (101, 15)
        with np.load(tmp_path / "y.npz") as written:
            np.testing.assert_allclose(
                written["scores"], digits_like_bundle.run({"image": images})["scores"], rtol=1e-5
            )


def test_one_input_may_be_named_x_and_be_float64(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64)))
    text = invoke(digits_like_bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert "2 samples" in text
    assert "scores [2, 10]" in text


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"other": np.zeros((2, 64), np.float32)}, "no array named 'image'"),
        ({"image": np.zeros((2, 63), np.float32)}, "shape [2, 63], expected [-1, 64]"),
        ({"image": np.zeros((0, 64), np.float32)}, "at least 1"),
        ({"image": np.zeros((2, 64), np.complex64)}, "does not convert"),
        ({"image": np.array([{}])}, "cannot be read"),
        ({"image": np.full((2, 64), 1e300)}, "values that float32 cannot hold"),
    ],
)
def test_wrong_inputs_are_explained(
    digits_like_bundle: SmallBundle, tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserFault, match=said.replace("[", r"\[").replace("]", r"\]")):
        invoke(digits_like_bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert not (tmp_path / "y.npz").exists()


def test_files_that_are_no_npz_are_explained(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    for name in ("plain.npy", "text.npz", "empty.npz"):
        with pytest.raises(UserFault, match="npz"):
            invoke(digits_like_bundle.archive, "--input", tmp_path / name, "--output", tmp_path / "y.npz")


def test_a_bundle_that_computes_other_numbers_is_refused(tmp_path: Path) -> None:
    bundle = digits_bundle(tmp_path / "bad", golden_shift=0.5)
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64), np.float32))
    with pytest.raises(UserFault, match=r"golden self-test failed.*--emulated"):
        invoke(bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")


def test_a_truncated_bundle_is_refused(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    cut = tmp_path / "cut.bundle"
    cut.write_bytes(digits_like_bundle.archive.read_bytes()[:-2000])
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64), np.float32))
    with pytest.raises(Fault):
        invoke(cut, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")
    assert list(tmp_path.glob("*y.npz*")) == []


def test_an_output_that_cannot_be_written_leaves_nothing(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64), np.float32))
    with pytest.raises(EnvironmentFault, match="does not exist"):
        invoke(digits_like_bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "no" / "y.npz")


def test_an_engine_version_that_does_not_fit_says_how_to_get_one(tmp_path: Path) -> None:
    bundle = digits_bundle(tmp_path / "future", engine_version=">=99")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64), np.float32))
    with pytest.raises(EnvironmentFault, match="pip install 'onnxruntime>=99'"):
        invoke(bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz")


def test_what_is_no_regular_file_is_neither_read_nor_replaced(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 64), np.float32))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EnvironmentFault, match="not a regular file"):
        invoke(digits_like_bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(UserFault, match="not an npz file"):
        invoke(digits_like_bundle.archive, "--input", tmp_path / "pipe", "--output", tmp_path / "y.npz")


def test_infinite_inputs_stay_infinite(digits_like_bundle: SmallBundle, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.full((2, 64), np.inf))
    assert "2 samples" in invoke(
        digits_like_bundle.archive, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz"
    )
