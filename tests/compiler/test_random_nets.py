"""Whatever a net is made of: its signature stays, its numbers stay near, and its plan survives being written down."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewright.compiler.faults import NotQuantizable
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, signature, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, Outputs, open_session, run
from edgewright.compiler.metrics import snr_db
from edgewright.compiler.quantize.emission import emit_plan
from edgewright.compiler.quantize.planfile import parse_plan, write_plan
from edgewright.compiler.quantize.propose import propose
from edgewright.compiler.quantize.scheme import Scheme
from edgewright.compiler.quantize.uncalibrated.dynamic import propose_dynamic
from edgewright.compiler.quantize.uncalibrated.weight_only import propose_weights
from tests.compiler.nets import Net, optimised, statistics_of
from tests.compiler.random_nets import nets_and_outputs

Given = tuple[Net, tuple[str, ...]]
SCHEMES = (
    Scheme(),
    Scheme(activations="int8"),
    Scheme(per_channel=False),
    Scheme(guard="pairs"),
    Scheme(activations="uint16"),
)
LEAST_DB = 12.0
"""A handful of random layers loses more than this only where something is wrong."""
CHECKED = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def inputs_of(net: Net, samples: int = 16) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    shapes = {"x": net.input_shape, **net.more_inputs}
    return {name: random.normal(size=(samples, *shape)).astype(np.float32) for name, shape in shapes.items()}


def outputs(graph: Graph, x: dict[str, np.ndarray]) -> Outputs:
    return run(open_session(to_bytes(graph), Arithmetic.ENGINE), x)


def check_near(found: Outputs, truth: Outputs, least_db: float) -> None:
    assert list(found) == list(truth)
    for name, expected in truth.items():
        assert snr_db(found[name], expected) > least_db, name


@CHECKED
@given(nets_and_outputs())
def test_float_passes_keep_names_and_numbers(given: Given) -> None:
    net, names = given
    before, after, x = import_proto(net.model(*names), "net"), optimised(net.model(*names)), inputs_of(net)
    assert signature(after) == signature(before)
    check_near(outputs(after, x), outputs(before, x), 80)


@CHECKED
@given(nets_and_outputs(), st.sampled_from(SCHEMES))
def test_static_plans_keep_the_signature_and_stay_near(given: Given, scheme: Scheme) -> None:
    net, names = given
    graph, x = optimised(net.model(*names)), inputs_of(net)
    plan = propose(graph, statistics_of(graph, x), scheme)
    result = emit_plan(graph, plan)
    assert signature(result) == signature(graph)
    check_near(outputs(result, x), outputs(graph, x), LEAST_DB)
    read = parse_plan(write_plan(plan).encode(), "plan.toml")
    assert read == plan
    assert to_bytes(emit_plan(graph, read)) == to_bytes(result)


@CHECKED
@given(nets_and_outputs(), st.sampled_from(["dynamic", "weights"]))
def test_plans_without_calibration_keep_the_signature_and_stay_near(given: Given, method: str) -> None:
    net, names = given
    graph, x = optimised(net.model(*names)), inputs_of(net)
    try:
        plan = (
            propose_dynamic(graph, Scheme(method="dynamic"))
            if method == "dynamic"
            else propose_weights(graph, Scheme(method="weights"))
        )
    except NotQuantizable:
        return
    result = emit_plan(graph, plan)
    assert signature(result) == signature(graph)
    check_near(outputs(result, x), outputs(graph, x), LEAST_DB)
    assert to_bytes(emit_plan(graph, parse_plan(write_plan(plan).encode(), "plan.toml"))) == to_bytes(result)
