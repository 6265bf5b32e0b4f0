"""The kept spellings of an answer, put together, are what the whole answer is spelled as."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.pipeline import Outcome, Signature
from edgewright.runtime.server.v2.inference import Inference, write_response

NAMES = st.text(min_size=1, max_size=4) | st.sampled_from(["y", 'a"b', "grün", "\\", "%d"])
NOTES = st.dictionaries(st.text(max_size=4), st.integers(-5, 5) | st.booleans() | st.text(max_size=4), max_size=2)


@given(
    st.dictionaries(NAMES, st.tuples(st.lists(st.integers(0, 3), max_size=3), st.booleans()), max_size=3),
    NAMES,
    NAMES,
    st.none() | st.text(max_size=5),
    NOTES,
)
def test_an_answer_is_spelled_as_a_whole_one_is(
    outputs: dict[str, tuple[list[int], bool]], model: str, version: str, identity: str | None, notes: dict[str, Any]
) -> None:
    arrays = {name: np.full(shape, 0.1, np.float32) for name, (shape, _) in outputs.items()}
    described = []
    for name, (shape, binary) in outputs.items():
        data = (
            {"parameters": {"binary_data_size": arrays[name].nbytes}}
            if binary
            else {"data": arrays[name].ravel().tolist()}
        )
        described.append({"name": name, "datatype": "FP32", "shape": shape, **data})
    expected: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    expected |= {} if identity is None else {"id": identity}
    expected |= {"parameters": notes} if notes else {}
    of = Signature(model, "7", {}, {name: TensorSpec(name="y", datatype="FP32", shape=(-1,)) for name in outputs})
    wanted = {name: binary for name, (_, binary) in outputs.items()}
    response = write_response(Inference({}, 1, wanted, identity), Outcome(arrays, None, "m", version, notes=notes), of)
    assert response.body[0] == msgspec.json.encode(expected)
    assert [bytes(part) for part in response.body[1:]] == [
        arrays[name].tobytes() for name, binary in wanted.items() if binary
    ]


def test_best_classes_are_texts_whatever_the_output_is() -> None:
    of = Signature("m", "7", {}, {"y": TensorSpec(name="y", datatype="FP32", shape=(-1, 3))})
    outputs = {"y": np.array([[0.25, 0.5, 0.125]], np.float32)}
    wanted = Inference({}, 1, {"y": False}, None, classes={"y": 2})
    (body,) = write_response(wanted, Outcome(outputs, None, "m", "7"), of).body
    told = msgspec.json.decode(body)["outputs"]
    assert told == [{"name": "y", "datatype": "BYTES", "shape": [1, 2], "data": ["0.500000:1", "0.250000:0"]}]
