"""`edgewright diff`: factors that a plan moved between layers are undone before tensors are compared."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.compiler.compare.report import Comparison
from edgewright.compiler.compare.run import compare_models
from edgewright.compiler.compare.source import opened
from edgewright.compiler.data import Samples, load_arrays
from edgewright.compiler.faults import ModelError
from edgewright.compiler.graph import Graph, graph_digest, to_proto
from edgewright.compiler.pipeline import divide
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.corrections.equalize import equalized
from edgewright.compiler.quantize.corrections.links import find_links, tensors_between
from edgewright.compiler.quantize.corrections.record import KEY, moved_factors, recorded
from edgewright.compiler.quantize.emission import emit_plan
from edgewright.compiler.quantize.plan import Equalization, Plan
from edgewright.compiler.quantize.planfile import write_plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize_request import QuantizeRequest, quantize_model
from edgewright.compiler.report.progress import SilentStages
from edgewright.compiler.scratch import Scratch
from tests.compiler.link_nets import Array, net_of, normal, random_factors, random_graph

SAME_DB = 85.0
"""Of float32 sums in another order."""


def moved_only(graph: Graph, moves: tuple[Equalization, ...]) -> Graph:
    """What a plan emits that moves factors and rounds nothing."""
    return emit_plan(graph, Plan(model_digest="", scheme=Scheme(), equalizations=moves))


def compared(left: Graph, right: Graph, x: Array, folder: Path) -> Comparison:
    """Through files, as the command does."""
    paths = folder / "left.onnx", folder / "right.onnx"
    for graph, path in zip((left, right), paths, strict=True):
        onnx.save(to_proto(graph), path)
    with opened(paths[0]) as one, opened(paths[1]) as other, Scratch(folder / "scratch") as scratch:
        return compare_models(one, other, {"x": x}, SilentStages(), scratch)


def lowest(comparison: Comparison) -> float:
    """Of all layers, from the input on and alone."""
    return min(min(layer.snr_db, layer.local_snr_db or 0.0) for layer in comparison.layers)


def without_record(graph: Graph) -> Graph:
    graph.metadata_props.pop(KEY)
    return graph


def encoder() -> tuple[Graph, Array]:
    """A normalisation whose factors go to two products, one of them behind another bias."""
    graph = net_of(
        """n = LayerNormalization<axis = -1>(x, g, b) q = MatMul(n, wq) v = Add(q, bv) r = Relu(v) y = MatMul(r, wo)""",
        {"g": normal(8), "b": normal(8, seed=1), "wq": normal(8, 6, seed=2), "bv": normal(6), "wo": normal(6, 5)},
        shape="N, 7, 8",
        out="N, 7, 5",
    )
    return graph, normal(5, 7, 8, seed=9)


def convolutions() -> tuple[Graph, Array]:
    """A depthwise convolution, pooling and flattening between convolutions and a Gemm."""
    graph = net_of(
        """a = Conv(x, w1) b = Relu(a) d = Conv<group = 4>(b, w2) e = Relu(d) m = MaxPool<kernel_shape = [2, 2]>(e)
        p = GlobalAveragePool(m) f = Flatten(p) y = Gemm(f, w3)""",
        {"w1": normal(4, 4, 1, 1, spread=1.0), "w2": normal(4, 1, 3, 3, spread=1.0), "w3": normal(4, 3)},
        out="N, 3",
    )
    return graph, normal(16, 4, 6, 6, seed=9)


NETS = {"encoder": encoder, "convolutions": convolutions}


@pytest.mark.parametrize("name", sorted(NETS))
def test_what_was_moved_is_no_difference(name: str, tmp_path: Path) -> None:
    graph, x = NETS[name]()
    moves = random_factors(graph, 3)
    comparison = compared(graph, moved_only(graph, moves), x, tmp_path)
    assert lowest(comparison) > SAME_DB
    bare = compared(graph, without_record(moved_only(graph, moves)), x, tmp_path)
    carrying = {value.name for link in find_links(graph) for value, _ in tensors_between(link)}
    assert carrying, "a net without links proves nothing"
    assert {layer.name for layer in bare.layers if layer.snr_db < 20} == carrying


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_random_nets(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    graph, x = random_graph(seed)
    folder = tmp_path_factory.mktemp("net")
    moves = random_factors(graph, seed)
    assert lowest(compared(graph, moved_only(graph, moves), x, folder)) > SAME_DB
    assert lowest(compared(moved_only(graph, moves), graph, x, folder)) > SAME_DB


def test_two_moved_models_are_both_undone(tmp_path: Path) -> None:
    graph, x = convolutions()
    one, other = (moved_only(graph, random_factors(graph, seed)) for seed in (1, 2))
    assert lowest(compared(one, other, x, tmp_path)) > SAME_DB
    again = compared(one, one, x, tmp_path)
    assert {layer.snr_db for layer in again.layers} == {200.0}
    assert lowest(again) > 140, "what goes in is divided, what comes out multiplied: two roundings of float32"


@pytest.mark.parametrize("name", sorted(NETS))
def test_an_int8_model_shows_its_rounding_and_nothing_else(name: str, tmp_path: Path) -> None:
    graph, x = NETS[name]()
    moves = tuple(
        Equalization(producer=move.producer, consumers=move.consumers, factors=(0.25,) * len(move.factors))
        for move in random_factors(graph, 3)
    )
    after = equalized(graph, moves)
    samples = Samples({"x": x}, None)
    levels = []
    for start, applied in ((graph, ()), (after, moves)):
        with Scratch(tmp_path / "scratch") as scratch:
            plan = propose(start, collect(start, samples, scratch), Scheme())
        found = emit_plan(graph, msgspec.structs.replace(plan, equalizations=applied))
        levels.append({layer.name: layer.snr_db for layer in compared(graph, found, x, tmp_path).layers})
    plain, moved = levels
    assert plain == pytest.approx(moved, abs=1e-3), "powers of two change no integer"
    assert 20 < min(moved.values()) < max(moved.values()) < SAME_DB


def test_the_worst_layers_of_quantize_are_those_of_diff(tmp_path: Path) -> None:
    graph, x = convolutions()
    source, data, plan_file = tmp_path / "net.onnx", tmp_path / "data.npz", tmp_path / "given.plan.toml"
    onnx.save(to_proto(graph), source)
    np.savez(data, x=normal(60, 4, 6, 6, seed=9))
    moves = random_factors(graph, 3)
    after = equalized(graph, moves)
    with Scratch(tmp_path / "scratch") as scratch:
        plan = propose(after, collect(after, Samples({"x": x}, None), scratch), Scheme())
    moved = msgspec.structs.replace(plan, equalizations=moves, model_digest=graph_digest(graph))
    plan_file.write_text(write_plan(moved))
    request = QuantizeRequest(model=source, out=tmp_path / "q.onnx", data=data, plan=plan_file)
    worst = quantize_model(request).worst
    assert worst
    with opened(source) as one, opened(request.out) as other, Scratch(tmp_path / "scratch") as scratch:
        tune = divide(data, *load_arrays(data), graph).tune
        layers = compare_models(one, other, tune.inputs, SilentStages(), scratch).layers
    found = {layer.name: (layer.snr_db, layer.local_snr_db) for layer in layers}
    for layer in worst:
        assert (layer.snr_db, layer.local_snr_db) == pytest.approx(found[layer.name], abs=1e-3)
    assert min(layer.local_snr_db for layer in worst) > 10, "factors up to 50 would be below 0 dB"


def test_the_record_is_compact_deterministic_and_alone() -> None:
    graph, _ = convolutions()
    graph.metadata_props["author"] = "someone"
    moves = random_factors(graph, 3)
    emitted = moved_only(graph, moves)
    assert emitted.metadata_props == {"author": "someone", KEY: recorded(graph, moves)}
    assert recorded(graph, moves) == recorded(graph, moves)
    factors = moved_factors(emitted)
    assert {name: found.axis for name, found in factors.items()} == {
        "a": 1,
        "b": 1,
        "d": 1,
        "e": 1,
        "m": 1,
        "p": 1,
        "f": -1,
    }
    for move, name in zip(moves, "ad", strict=True):
        np.testing.assert_array_equal(factors[name].values, np.asarray(move.factors, np.float32))
    assert len(emitted.metadata_props[KEY]) < 300
    assert KEY not in moved_only(graph, ()).metadata_props


def test_a_move_that_does_not_fit_is_refused() -> None:
    graph, _ = convolutions()
    with pytest.raises(ModelError, match="make the plan again"):
        recorded(graph, (Equalization(producer="nobody", consumers=("n_d",), factors=(1.0,)),))


def record_of(factors: list[float], tensor: str = "a", axis: int = 1) -> str:
    encoded = base64.b64encode(np.asarray(factors, np.float32).tobytes()).decode()
    return json.dumps([{"axis": axis, "factors": encoded, "tensors": [tensor]}])


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[{}]",
        record_of([1, 1, 1, 1], axis=2),
        record_of([1, 0, 1, 1]),
        record_of([1, np.inf, 1, 1]),
        record_of([1, 1, 1]),
        '[{"axis": 1, "factors": "AA", "tensors": ["a"]}]',
        '[{"axis": 1, "factors": "AAAA", "tensors": ["a"]}]',
    ],
)
def test_a_damaged_record_is_told(text: str, tmp_path: Path) -> None:
    graph, x = convolutions()
    graph.metadata_props[KEY] = text
    with pytest.raises(ModelError, match="Quantize the float model again"):
        compared(graph, graph, x, tmp_path)
