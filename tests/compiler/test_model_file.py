"""Models as engines load them: bytes, or files where bytes would be too much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, add_weight, clone, to_bytes
from edgewright.compiler.lower.model_file import (
    DATA,
    LARGEST_IN_MEMORY_BYTES,
    MODEL,
    LargeModel,
    copy_to,
    digest_of,
    discard,
    settled,
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
    moved = tmp_path / "bundle"
    moved.mkdir()
    assert copy_to(model, moved) == (MODEL, DATA)
    assert copy_to(model, moved, "other.onnx") == ("other.onnx", "other.onnx.data")
    discard(model)
    assert not list(scratch.folder().iterdir())
    (moved / DATA).rename(moved / "gone")
    assert looked_up(moved / "other.onnx", large) == [[0, 0], [2 * COLUMNS, 3 * COLUMNS]]
    (moved / "gone").rename(moved / DATA)
    assert looked_up(moved / MODEL, large) == [[0, 0], [2 * COLUMNS, 3 * COLUMNS]]


def looked_up(path: Path, graph: Graph) -> list[list[float]]:
    """The first and the last row."""
    rows = graph.graph.initializers["table"].shape[0]  # type: ignore[index]
    session = open_session(LargeModel(path, graph), Arithmetic.ENGINE)
    found: list[list[float]] = run(session, {"x": np.array([0, rows - 1], dtype=np.int64)})["y"].tolist()
    return found


def test_the_same_graph_gives_the_same_model(large: Graph, scratch: Scratch) -> None:
    first, second = write_model(large, scratch), write_model(settled(large, scratch), scratch)
    assert isinstance(first, LargeModel)
    assert isinstance(second, LargeModel)
    assert first.path != second.path
    assert digest_of(first) == digest_of(second)
    assert size_bytes(first) == size_bytes(second)


def changed(graph: Graph, row: int) -> Graph:
    """The graph with another small weight."""
    result = clone(graph)
    small = result.graph.initializers["small"]
    array = np.array(small.const_value.numpy())  # type: ignore[union-attr]
    array[row] += 1
    other = add_weight(result, "other", array)
    for use in list(small.uses()):
        use.node.replace_input_with(use.idx, other)
    result.graph.initializers.pop("small")
    return result


def test_every_weight_counts_in_the_digest(large: Graph, scratch: Scratch) -> None:
    found = {digest_of(write_model(graph, scratch)) for graph in (large, changed(large, 0), changed(large, 7))}
    assert len(found) == 3


def test_settled_weights_are_written_once(large: Graph, scratch: Scratch) -> None:
    graph = settled(large, scratch)
    assert settled(graph, scratch) is graph, "nothing is left to be written"
    (shared,) = scratch.folder().iterdir()
    models = [write_model(graph, scratch), write_model(changed(graph, 0), scratch)]
    sizes = sorted(file.stat().st_size for file in scratch.folder().iterdir())
    assert sizes[-1] > LARGEST_IN_MEMORY_BYTES
    assert sum(sizes[:-1]) < 32 << 10, "two small files, and the small weight that was changed"
    for model, row in zip(models, (2 * COLUMNS, 2 * COLUMNS + 1), strict=True):
        assert isinstance(model, LargeModel)
        assert looked_up(model.path, large)[1][0] == row
        discard(model)
    assert list(scratch.folder().iterdir()) == [shared], "what others use stays"


def test_a_weight_that_two_names_share_is_written_once(large: Graph, scratch: Scratch) -> None:
    graph = clone(large)
    table = graph.graph.initializers["table"]
    twin = add_weight(graph, "twin", np.zeros((1, 1), np.float32))
    twin.const_value = table.const_value
    model = write_model(graph, scratch)
    assert size_bytes(model) < 2 * LARGEST_IN_MEMORY_BYTES


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
