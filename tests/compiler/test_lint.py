"""Every warning is given where it belongs, says what to do, and is not given for good data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgewright.compiler.data import Dataset, Samples, dataset
from edgewright.compiler.data_warning import DataWarning
from edgewright.compiler.frontends.onnx import import_proto
from edgewright.compiler.graph import Graph
from edgewright.compiler.lint import lint
from edgewright.compiler.optimize.input_normalization import FoldInputNormalization, Normalization
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.quantize.calibration.statistics import Statistics, TensorStatistics
from edgewright.compiler.scratch import Scratch
from tests.compiler.conftest import classifier

rng = np.random.default_rng(9)


@pytest.fixture
def graph() -> Graph:
    return import_proto(classifier(), "test")


def pictures(count: int = 40) -> NDArray[np.float32]:
    return rng.normal(size=(count, 1, 8, 8)).astype(np.float32)


def divided(x: NDArray[Any], labels: NDArray[Any] | None = None) -> Dataset:
    part = Samples({"x": x}, labels)
    return Dataset(calibrate=part, tune=part, test=part, digest="d", ignored=(), split_by="array `split`")


def codes(found: tuple[DataWarning, ...]) -> list[str]:
    assert all(warning.text and warning.fix for warning in found)
    return [warning.code for warning in found]


def test_good_data_gets_no_warning(graph: Graph, scratch: Scratch) -> None:
    samples = pictures()
    labels = np.arange(40) % 4
    assert lint(divided(samples, labels), graph, collect(graph, Samples({"x": samples}, None), scratch)) == ()


def test_few_samples(graph: Graph) -> None:
    assert codes(lint(divided(pictures(31)), graph)) == ["few-samples"]
    assert "31 calibration samples" in lint(divided(pictures(31)), graph)[0].text


def test_samples_that_are_on_both_sides(graph: Graph) -> None:
    x = pictures(60)
    x[50:] = x[:10]
    split = np.array(["calibrate"] * 40 + ["tune"] * 5 + ["test"] * 15)
    found = lint(dataset(Path("d"), {"x": x, "split": split}, "d", ("x",)), graph)
    assert codes(found) == ["test-overlap"]
    assert "10 of 15" in found[0].text


def test_an_input_that_never_varies(graph: Graph) -> None:
    assert codes(lint(divided(np.repeat(pictures(1), 40, axis=0)), graph)) == ["constant-input"]


@pytest.mark.parametrize(
    ("shape", "place", "words"),
    [
        ((40, 5), (slice(None), 2), "1 features never vary in calibration: 2"),
        ((40, 3, 8, 8), (slice(None), 1), "channels of axis 1 never vary in calibration: 1"),
        ((40, 8, 8, 3), (..., 2), "channels of axis 3 never vary in calibration: 2"),
    ],
)
def test_a_feature_or_channel_that_never_varies(
    graph: Graph, shape: tuple[int, ...], place: tuple[Any, ...], words: str
) -> None:
    x = rng.normal(size=shape).astype(np.float32)
    assert lint(divided(x), graph) == ()
    x[place] = 0.5
    found = lint(divided(x), graph)
    assert codes(found) == ["constant-feature"]
    assert words in found[0].text


def test_borders_that_never_vary_mean_nothing(graph: Graph) -> None:
    x = pictures()
    x[:, :, 0] = x[:, :, :, 0] = 0
    assert lint(divided(x), graph) == ()


def test_a_flattened_picture_is_no_set_of_features(graph: Graph) -> None:
    x = rng.normal(size=(40, 784)).astype(np.float32)
    x[:, :28] = 0
    assert lint(divided(x), graph) == ()


def test_bytes_where_scaled_values_are_expected(graph: Graph, scratch: Scratch) -> None:
    raw = rng.integers(0, 256, (40, 1, 8, 8)).astype(np.float32)
    found = lint(divided(raw), graph, collect(graph, Samples({"x": raw}, None), scratch))
    assert codes(found) == ["raw-range"]
    assert "--scale 1/255" in found[0].fix


def test_bytes_for_a_model_that_was_trained_on_them(scratch: Scratch) -> None:
    model = classifier()
    for weight in model.graph.initializer:
        if weight.name == "w1":
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) / 255, "w1"))
    graph = import_proto(model, "test")
    raw = rng.integers(0, 256, (40, 1, 8, 8)).astype(np.float32)
    assert lint(divided(raw), graph, collect(graph, Samples({"x": raw}, None), scratch)) == ()


def test_large_values_that_are_no_bytes(graph: Graph, scratch: Scratch) -> None:
    large = pictures() * 100
    assert lint(divided(large), graph, collect(graph, Samples({"x": large}, None), scratch)) == ()


def test_values_that_cannot_outweigh_the_bias(graph: Graph) -> None:
    found = lint(divided(pictures() / 1000), graph)
    assert codes(found) == ["weak-range"]


def test_zeros_and_ones_where_bytes_are_expected(graph: Graph) -> None:
    folded = FoldInputNormalization()(graph, Normalization(scale=(1 / 255,))).graph
    mask = rng.integers(0, 2, (40, 1, 8, 8)).astype(np.uint8)
    assert codes(lint(divided(mask), folded)) == ["scaled-range"]
    assert lint(divided(mask * 255), folded) == ()
    assert lint(divided(mask), graph) == ()  # a mask is what such a model takes


@pytest.mark.parametrize(("side", "expected"), [(3, ["ambiguous-layout"]), (4, [])])
def test_channels_that_could_stand_first_or_last(side: int, expected: list[str]) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "c", kernel_shape=[1, 1])
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, side, side])
        for name, channels in (("x", 3), ("y", 2))
    ]
    weight = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    model = helper.make_model(
        helper.make_graph([node], "g", ports[:1], ports[1:], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    x = rng.normal(size=(40, 3, side, side)).astype(np.float32)
    assert codes(lint(divided(x), import_proto(model, "test"))) == expected


@pytest.mark.parametrize("part", ["calibrate", "test"])
def test_classes_that_are_missing(graph: Graph, part: str) -> None:
    data = divided(pictures(), np.arange(40) % 4)
    poor = replace(data, **{part: Samples({"x": pictures()}, np.arange(40) % 3)})  # type: ignore[arg-type]
    found = lint(poor, graph)
    assert codes(found) == [f"classes-missing-in-{part}"]
    assert "1 of 4 classes: 3" in found[0].text


def test_classes_that_are_rare(graph: Graph) -> None:
    data = divided(pictures(), np.arange(40) % 2)
    rare = np.array([0] * 38 + [1] * 2)
    assert codes(lint(replace(data, test=Samples({"x": pictures()}, rare)), graph)) == ["unbalanced-classes"]


@pytest.mark.parametrize("labels", [np.arange(40), rng.normal(size=40), rng.integers(0, 9, (40, 3))])
def test_labels_that_are_no_classes(graph: Graph, labels: NDArray[Any]) -> None:
    data = divided(pictures(), labels)
    assert lint(replace(data, test=Samples({"x": pictures(20)}, labels[:20] + 7)), graph) == ()


def test_activations_that_are_not_finite(graph: Graph) -> None:
    tensors = {f"t{i}": TensorStatistics(not_finite=int(i > 0)) for i in range(9)}
    found = lint(divided(pictures()), graph, Statistics(40, tensors, {}))
    assert codes(found) == ["not-finite"]
    assert "8 activations on calibration data: t1, t2, t3, t4, t5 and 3 more" in found[0].text
