"""plan.toml: what is written reads back the same, and what people write wrong is refused with its place."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.faults import PlanError
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph, graph_digest
from edgewright.compiler.quantize.plan import Encoding, Equalization, Operator, Plan, WeightEncoding
from edgewright.compiler.quantize.planfile import check_plan, parse_plan, plan_warnings, read_plan, write_plan
from edgewright.compiler.quantize.scheme import Scheme
from tests.compiler.conftest import classifier

scales = st.floats(min_value=2.0**-90, max_value=2.0**90, width=32)
shifts = st.floats(min_value=-(2.0**60), max_value=2.0**60, width=32)
names = st.text(min_size=1, max_size=20)
weights = st.builds(
    WeightEncoding,
    type=st.sampled_from(["int8", "uint8", "int4"]),
    axis=st.none() | st.integers(0, 3),
    scale=st.lists(scales, min_size=1, max_size=20).map(tuple),
    block_size=st.none() | st.integers(1, 128),
    pair_peaks=st.lists(st.integers(0, 255), max_size=9).map(tuple),
)
operators = st.builds(
    Operator,
    compute=st.sampled_from(["int8", "int16", "dynamic", "weights", "float"]),
    weight=st.none() | weights,
    bias_correction=st.lists(shifts, max_size=10).map(tuple),
    reason=st.text(max_size=30),
)
encodings = st.builds(
    Encoding,
    type=st.sampled_from(["uint8", "uint16"]),
    scale=scales,
    zero_point=st.integers(0, 255),
    calibrator=st.sampled_from(["min-max", "percentile", "entropy", "mse", "given", "shared"]),
)
equalizations = st.builds(
    Equalization,
    producer=names,
    consumers=st.lists(names, min_size=1, max_size=3).map(tuple),
    factors=st.lists(scales, min_size=1, max_size=9).map(tuple),
)
plans = st.builds(
    Plan,
    model_digest=names,
    scheme=st.builds(Scheme, activations=st.sampled_from(["uint8", "int16"]), per_channel=st.booleans()),
    equalizations=st.lists(equalizations, max_size=2).map(tuple),
    operators=st.dictionaries(names, operators, max_size=3),
    tensors=st.dictionaries(names, encodings, max_size=3),
)


@given(plans)
def test_what_is_written_reads_back_the_same(plan: Plan) -> None:
    text = write_plan(plan)
    assert parse_plan(text.encode(), "here") == plan
    assert write_plan(parse_plan(text.encode(), "here")) == text


@pytest.fixture
def graph() -> Graph:
    return import_proto(classifier(), "classifier")


def plan_for(graph: Graph, **changes: object) -> Plan:
    conv = WeightEncoding(type="int8", axis=0, scale=(0.5,) * 6)
    plan = Plan(
        model_digest=graph_digest(graph),
        scheme=Scheme(),
        operators={"conv": Operator(compute="int8", weight=conv)},
        tensors={"x": Encoding(type="uint8", scale=0.25, zero_point=128)},
    )
    return msgspec.structs.replace(plan, **changes)


def test_a_plan_that_fits_is_taken(graph: Graph) -> None:
    check_plan(plan_for(graph), graph, "plan.toml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"operators": {"cnov": Operator(compute="float")}}, "operator 'cnov' is not in the model"),
        ({"tensors": {"y": Encoding(type="uint8", scale=1.0, zero_point=0)}}, "tensor 'y' is not in the model"),
        ({"tensors": {}}, "its input 'x' has no entry under"),
        ({"operators": {"conv": Operator(compute="int8", weight=WeightEncoding(type="int8", axis=0, scale=(1.0,)))}},
         "1 weight scales, expected 6 for axis 0"),
        ({"operators": {"conv": Operator(compute="int8", weight=WeightEncoding(
            type="int8", axis=0, scale=(1.0,) * 6, pair_peaks=(255, 255)))}},
         "2 pair_peaks with axis 0, expected 1"),
        ({"operators": {"conv": Operator(
            compute="int8", weight=WeightEncoding(type="int8", axis=2, scale=(1.0,) * 3))}},
         "scales along axis 2, but int8 takes one for each output channel: axis 0"),
        ({"operators": {"conv": Operator(compute="int8", bias_correction=(0.5,) * 5)}},
         "5 numbers in bias_correction, expected 6"),
        ({"operators": {"relu": Operator(compute="int8")}}, "(Relu) has no int8 form"),
        ({"operators": {"pool": Operator(compute="int8", weight=WeightEncoding(type="int8", axis=0, scale=(1.0,)))}},
         "has a weight in the plan, but none in the model"),
        ({"equalizations": (Equalization(producer="conv", consumers=("nobody",), factors=(1.0,)),)},
         "equalization of 'nobody'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_model_is_named(graph: Graph, changes: dict[str, object], told: str) -> None:
    with pytest.raises(PlanError) as refusal:
        check_plan(plan_for(graph, **changes), graph, "plan.toml")
    assert str(refusal.value).startswith("plan.toml: ")
    assert told in str(refusal.value)


def test_a_plan_of_another_model_says_so(graph: Graph) -> None:
    plan = plan_for(graph, model_digest="sha256:other", operators={"other": Operator(compute="float")})
    with pytest.raises(PlanError, match="made for another model"):
        check_plan(plan, graph, "plan.toml")


def test_a_plan_whose_names_fit_another_model_by_chance_is_a_warning(graph: Graph) -> None:
    assert plan_warnings(plan_for(graph), graph, "plan.toml") == ()
    (warning,) = plan_warnings(plan_for(graph, model_digest="sha256:other"), graph, "plan.toml")
    assert "plan.toml: the plan was made for another model" in warning.text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("= 3", "not a TOML file"),
        ("a" + ".a" * 8 + " = 1", "line 1: a key of more than 8 parts"),
        ("\n[" + "a." * 20000 + "a]", "line 2: a key of more than 8 parts"),
        ('a = [{"x" . b.c.d.e.f.g.h.i = 1}]', "a key of more than 8 parts"),
        ("# it's \"odd\na = '\"'\nb" + ".b" * 8 + " = '\"'", "line 3: a key of more than 8 parts"),
        ('a = """\n"""', "a string of several lines"),
        ("a = [" + "[]," * 500_000 + "]", "500002 entries"),
        ("a = " + "[" * 9999 + "]" * 9999, "not a TOML file"),
        ("format_version = " + "9" * 5000, "not a TOML file"),
        ('model_digest = "a"\n[scheme]\n[tensors.x]\ntype = "uint8"\nscale = 1.0\nzero_point = "0"', "got `str`"),
        ('model_digest = "a"\n[scheme]\n[operators.x]\ncompute = "int8"\nbias_correction = [nan]', "1e+30"),
        ('model_digest = "a"\n[scheme]\n' + "x" * 10**5 + " = 1", "xxx"),
        ('model_digest = "a"\n[scheme]\nkolour = 1', "kolour"),
        ('model_digest = "a"\n[scheme]\n[operators.c1]\ncompute = "int9"', "operators.'c1': Invalid enum value 'int9'"),
        ('model_digest = "a"\n[scheme]\n[operators.c1]\ncompute = "int9"', "expected one of int8, int16, dynamic"),
        ('model_digest = "a"\n[scheme]\n[operators.c1]\ncompute = "float"\nbias_corection = [1]', "operators.'c1': "),
        ('model_digest = "a"\n[scheme]\n[tensors.x]\nscale = 1.0\nzero_point = 0', "tensors.'x': "),
        ('model_digest = "a"\n[scheme]\n[tensors.x]\ntype = "uint8"\nscale = -1.0\nzero_point = 0', "> 0"),
        ('model_digest = "a"\n[scheme]\n[tensors.x]\ntype = "uint8"\nscale = 1e300\nzero_point = 0', "1e+30"),
        ('model_digest = "a"\n[scheme]\n[tensors.x]\ntype = "uint8"\nscale = 1.0\nzero_point = 256', "0 to 255"),
        ('format_version = 9\nmodel_digest = "a"\n[scheme]', "format version 9"),
    ],
)
def test_damage_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(PlanError) as refusal:
        read_plan(path)
    assert str(path) in str(refusal.value)
    assert told in str(refusal.value)
    assert len(str(refusal.value)) < 1000


def test_names_of_many_parts_are_no_long_keys() -> None:
    name = "encoder" + ".layer" * 20 + " it's = [{" * 3
    plan = Plan(model_digest="a", scheme=Scheme(), operators={name: Operator(compute="float", reason="a.b.c" * 9)})
    assert parse_plan(write_plan(plan).encode(), "here") == plan


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"plan\.toml: cannot be read"):
        read_plan(tmp_path / "plan.toml")


def test_the_digest_of_a_graph_sees_weights_names_and_attributes(graph: Graph) -> None:
    changed = import_proto(classifier(), "classifier")
    assert graph_digest(changed) == graph_digest(graph)
    weight = changed.graph.initializers["w1"]
    assert weight.const_value is not None
    changed_array = weight.const_value.numpy().copy()
    changed_array.flat[0] = np.nextafter(changed_array.flat[0], np.float32(9))
    other = import_proto(classifier(), "classifier")
    other.graph.initializers["w1"].const_value = ir.tensor(changed_array, name="w1")
    assert graph_digest(other) != graph_digest(graph)
