"""Models as engines load them: bytes, or files where bytes would be too much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.lower.model_file import (
    DATA,
    LARGEST_IN_MEMORY_BYTES,
    MODEL,
    LargeModel,
    copy_to,
    digest_of,
    discard,
    on_disk,
    size_bytes,
    write_model,
)
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run
from edgewright.compiler.scratch import PREFIX, Scratch
from edgewright.targets.faults import EnvironmentFault

COLUMNS = 1024


def lookup(rows: int) -> Graph:
    """Gather from a table of zeros whose last row is one, times a small weight."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (int64[N] x) => (float[N, 2] y) { rows = Gather(table, x) y = MatMul(rows, small) }"""
    )
    table = np.zeros((rows, COLUMNS), np.float32)
    table[-1] = 1
    small = np.stack([np.full(COLUMNS, 2.0), np.full(COLUMNS, 3.0)], axis=1).astype(np.float32)
    model.graph.initializer.extend([numpy_helper.from_array(table, "table"), numpy_helper.from_array(small, "small")])
    return import_proto(model, "test")


@pytest.fixture(scope="module")
def large() -> Graph:
    return lookup(LARGEST_IN_MEMORY_BYTES // (4 * COLUMNS))


def test_a_small_model_stays_in_memory(scratch: Scratch, tmp_path: Path) -> None:
    graph = lookup(3)
    model = write_model(graph, scratch)
    assert model == to_bytes(graph)
    assert size_bytes(model) == len(to_bytes(graph))
    assert not list(tmp_path.iterdir()), "nothing was written, so no folder was made"
    copy_to(model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]


def test_a_large_model_runs_from_its_files_wherever_they_lie(large: Graph, scratch: Scratch, tmp_path: Path) -> None:
    model = write_model(large, scratch)
    assert isinstance(model, LargeModel)
    assert size_bytes(model) > LARGEST_IN_MEMORY_BYTES
    assert model.path.stat().st_size < 4096, "the weights lie beside the model"
    rows = len(large.graph.initializers["table"].const_value.numpy())  # type: ignore[union-attr]
    moved = tmp_path / "bundle"
    moved.mkdir()
    copy_to(model, moved)
    discard(model)
    assert sorted(path.name for path in moved.iterdir()) == [MODEL, DATA]
    session = open_session(LargeModel(moved / MODEL, "", 0), Arithmetic.ENGINE)
    found = run(session, {"x": np.array([0, rows - 1], dtype=np.int64)})["y"]
    np.testing.assert_array_equal(found, [[0, 0], [2 * COLUMNS, 3 * COLUMNS]])


def test_the_same_graph_gives_the_same_files(large: Graph, scratch: Scratch) -> None:
    first, second = write_model(large, scratch), write_model(large, scratch)
    assert digest_of(first) == digest_of(second)
    assert isinstance(first, LargeModel)
    assert isinstance(second, LargeModel)
    assert first.path != second.path
    with first.path.with_name(DATA).open("r+b") as file:
        file.write(b"\x01")
    assert on_disk(first.path).digest != digest_of(second), "weights are part of the digest"


def test_scratch_vanishes_whatever_happens(large: Graph, tmp_path: Path) -> None:
    def fail() -> None:
        with Scratch(tmp_path) as scratch:
            write_model(large, scratch)
            assert [path.name[: len(PREFIX)] for path in tmp_path.iterdir()] == [PREFIX]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())


def test_scratch_that_cannot_be_made_is_the_environments_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with Scratch(tmp_path / "file" / "out") as scratch, pytest.raises(EnvironmentFault, match="Choose another folder"):
        scratch.folder()


def test_scratch_takes_the_folders_that_it_made_with_it_unless_results_lie_there(tmp_path: Path) -> None:
    with Scratch(tmp_path / "refused" / "out") as scratch:
        scratch.folder()
    assert not list(tmp_path.iterdir())
    with Scratch(tmp_path / "kept" / "out") as scratch:
        scratch.folder()
        (tmp_path / "kept" / "out" / "result").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "out", "result"]
    (tmp_path / "mine").mkdir()
    with Scratch(tmp_path / "mine") as scratch:
        scratch.folder()
    assert (tmp_path / "mine").is_dir(), "it was there before"
