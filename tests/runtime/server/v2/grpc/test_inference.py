"""Requests become tensors that fit the model, or one sentence that is also REST's; outcomes become responses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgewright.bundle.datatypes import NUMPY_OF_DATATYPE
from edgewright.runtime.server.pipeline import Outcome, Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.grpc.contents import FIELD_OF_DATATYPE, to_contents
from edgewright.runtime.server.v2.grpc.inference import Head, Heads, Plan, plan_inference, read_inputs, write_answer
from edgewright.runtime.server.v2.tensors import from_binary
from tests.runtime.server.v2.grpc.messages import LIMITS, Request, Response, raw_request, signature, texts

IMAGE = signature(image=("FP32", (-1, 4)))
ONE = np.arange(4, dtype=np.float32).reshape(1, 4)


def taken(request: Any, of: Signature, heads: Heads | None = None) -> tuple[Head, Plan, dict[str, NDArray[Any]]]:
    head, raw = (heads or Heads(LIMITS)).open(request.SerializeToString())
    plan = plan_inference(head, len(raw), of, LIMITS)
    return head, plan, read_inputs(head, raw, plan)


def refused(request: Any, of: Signature = IMAGE) -> Refusal:
    with pytest.raises(Refusal) as caught:
        taken(request, of)
    return caught.value


def values(datatype: str) -> st.SearchStrategy[NDArray[Any]]:
    if datatype == "BYTES":
        return st.lists(st.binary(max_size=20), min_size=1, max_size=6).map(lambda found: texts(*found))
    dtype = NUMPY_OF_DATATYPE[datatype]
    return st.integers(1, 6).flatmap(
        lambda count: st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize).map(
            lambda data: np.frombuffer(data, np.uint8).view(dtype) if datatype != "BOOL" else number_bools(data)
        )
    )


def number_bools(data: bytes) -> NDArray[Any]:
    return (np.frombuffer(data, np.uint8) % 2).astype(np.bool_)


def same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    if left.dtype == np.object_:
        return left.shape == right.shape and list(left.ravel()) == list(right.ravel())
    return left.shape == right.shape and left.dtype == right.dtype and left.tobytes() == right.tobytes()


@given(st.sampled_from(sorted(NUMPY_OF_DATATYPE)), st.data())
def test_raw_tensors_make_the_round_trip(datatype: str, data: st.DataObject) -> None:
    array = data.draw(values(datatype))
    of = signature(x=(datatype, (-1,)))
    head, plan, inputs = taken(raw_request(of, {"x": array}), of)
    assert same(inputs["x"], array)
    assert plan.rows == len(array)
    answer = Response.FromString(write_answer(head, plan, Outcome({"x": array}, None, "m", "1")))
    assert not answer.outputs[0].HasField("contents")
    (raw,) = answer.raw_output_contents
    assert same(from_binary(memoryview(raw), datatype, tuple(answer.outputs[0].shape), "x"), array)


def test_what_another_request_was_taken_for_does_not_excuse_this_one() -> None:
    """Contents beside a raw tensor are refused, also where the same head was planned without raw tensors before."""
    typed = raw_request(IMAGE, {"image": ONE})
    typed.inputs[0].contents.fp32_contents.extend([0.0] * 4)
    both = Request.FromString(typed.SerializeToString())
    typed.ClearField("raw_input_contents")
    heads = Heads(LIMITS)
    for _ in range(2):
        with pytest.raises(Refusal, match="beside raw_input_contents"):
            taken(both, IMAGE, heads)
        _, plan, inputs = taken(typed, IMAGE, heads)
        assert not plan.raw
        assert not inputs["image"].any()


@given(st.sampled_from(sorted(FIELD_OF_DATATYPE)), st.data())
def test_typed_tensors_make_the_round_trip(datatype: str, data: st.DataObject) -> None:
    array = data.draw(values(datatype))
    of = signature(x=(datatype, (-1,)))
    request = Request(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
    field = FIELD_OF_DATATYPE[datatype]
    getattr(tensor.contents, field).extend(to_contents(array, datatype)[field])
    head, plan, inputs = taken(request, of)
    if array.dtype.kind == "f":
        np.testing.assert_array_equal(inputs["x"], array)  # a NaN keeps being one; which of them is not promised
    else:
        assert same(inputs["x"], array)
    answer = Response.FromString(write_answer(head, plan, Outcome({"x": array}, None, "m", "1")))
    assert not answer.raw_output_contents
    assert len(getattr(answer.outputs[0].contents, field)) == array.size


def test_half_precision_is_raw_in_both_directions() -> None:
    of = signature(x=("FP16", (-1,)))
    request = Request(model_name="m")
    request.inputs.add(name="x", datatype="FP16", shape=[1]).contents.fp32_contents.append(1.0)
    assert "send raw_input_contents" in refused(request, of).message
    mixed = Signature("m", "1", signature(x=("FP32", (-1,))).inputs, of.outputs)
    request.inputs[0].datatype = "FP32"
    head, plan, _ = taken(request, mixed)
    answer = Response.FromString(write_answer(head, plan, Outcome({"x": np.ones(1, np.float16)}, None, "m", "1")))
    assert answer.raw_output_contents == [np.ones(1, np.float16).tobytes()]


def test_an_aligned_raw_tensor_is_not_copied() -> None:
    of = signature(x=("UINT8", (-1,)))
    _, _, inputs = taken(raw_request(of, {"x": np.arange(9, dtype=np.uint8)}), of)
    assert not inputs["x"].flags.owndata


def test_id_version_notes_and_order_of_outputs_are_in_the_answer() -> None:
    of = signature(a=("FP32", (-1,)), b=("FP32", (-1,)))
    array = np.ones(2, np.float32)
    request = raw_request(of, {"a": array, "b": array}, id="seven", outputs=[{"name": "b"}, {"name": "a"}])
    head, plan, _ = taken(request, of)
    outcome = Outcome(
        {"a": array, "b": array * 2}, None, "m", "3", notes={"arm": "new", "row": 2, "share": 0.5, "x": True}
    )
    answer = Response.FromString(write_answer(head, plan, outcome))
    assert (answer.id, answer.model_name, answer.model_version) == ("seven", "m", "3")
    assert [output.name for output in answer.outputs] == ["b", "a"]
    assert np.frombuffer(answer.raw_output_contents[0], np.float32)[0] == 2
    assert answer.parameters["arm"].string_param == "new"
    assert answer.parameters["row"].int64_param == 2
    assert answer.parameters["share"].double_param == 0.5
    assert answer.parameters["x"].bool_param is True


def test_the_best_classes_are_texts() -> None:
    request = raw_request(IMAGE, {"image": ONE})
    output = request.outputs.add(name="image")
    output.parameters["classification"].int64_param = 2
    head, plan, _ = taken(request, IMAGE)
    answer = Response.FromString(write_answer(head, plan, Outcome({"image": ONE}, None, "m", "1")))
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [1, 2])
    found = from_binary(memoryview(answer.raw_output_contents[0]), "BYTES", (1, 2), "image")
    assert [text.split(b":")[1] for text in found[0]] == [b"3", b"2"]


def test_what_was_read_once_is_kept_by_its_bytes_and_bounded() -> None:
    heads = Heads(LIMITS)
    first, plan, _ = taken(raw_request(IMAGE, {"image": ONE}), IMAGE, heads)
    again, same_plan, inputs = taken(raw_request(IMAGE, {"image": ONE + 1}), IMAGE, heads)
    assert again is first
    assert same_plan is plan
    np.testing.assert_array_equal(inputs["image"], ONE + 1)
    swapped = signature(image=("FP32", (-1, 5)))
    with pytest.raises(Refusal, match="expected \\[-1, 5\\]"):
        taken(raw_request(IMAGE, {"image": ONE}), swapped, heads)
    other, _, _ = taken(raw_request(IMAGE, {"image": ONE}, id="1"), IMAGE, heads)
    assert taken(raw_request(IMAGE, {"image": ONE}, id="1"), IMAGE, heads)[0] is not other
    for rows in range(1, 1000):
        request = Request(model_name="m", raw_input_contents=[b""])
        request.inputs.add(name="image", datatype="FP32", shape=[rows, 4])
        heads.open(request.SerializeToString())
    assert len(heads._kept) <= 256


def test_answers_of_two_shapes_or_versions_to_one_request_do_not_share_a_head() -> None:
    heads = Heads(LIMITS)
    for rows, version in ((1, "1"), (3, "1"), (3, "2"), (1, "1")):
        head, plan, _ = taken(raw_request(IMAGE, {"image": ONE}), IMAGE, heads)
        array = np.zeros((rows, 4), np.float32)
        answer = Response.FromString(write_answer(head, plan, Outcome({"image": array}, None, "m", version)))
        assert (list(answer.outputs[0].shape), answer.model_version) == ([rows, 4], version)


def broken(**changes: Any) -> Any:
    request = raw_request(IMAGE, {"image": ONE})
    for name, value in changes.items():
        setattr(request.inputs[0], name, value)
    return request


def twice() -> Any:
    request = raw_request(IMAGE, {"image": ONE})
    request.MergeFrom(raw_request(IMAGE, {"image": ONE}))
    return request


def both() -> Any:
    request = raw_request(IMAGE, {"image": ONE})
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return request


def typed(**contents: Any) -> Any:
    request = Request(model_name="m")
    request.inputs.add(name="image", datatype="FP32", shape=[1, 4], contents=contents)
    return request


def with_shape(*shape: int) -> Any:
    request = raw_request(IMAGE, {"image": ONE})
    request.inputs[0].shape[:] = shape
    return request


def with_parameter(name: str, **value: Any) -> Any:
    request = raw_request(IMAGE, {"image": ONE})
    for field, content in value.items():
        setattr(request.parameters[name], field, content)
    return request


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (broken(name="x"), "unknown input 'x'; the model has inputs ['image']"),
        (broken(datatype="INT8"), "datatype 'INT8', expected 'FP32'"),
        (with_shape(1, 5), "shape [1, 5], expected [-1, 4]"),
        (with_shape(-1, 4), "shape [-1, 4], expected [-1, 4]"),
        (with_shape(-1, -1), "shape [-1, -1], expected [-1, 4]"),
        (with_shape(0, 4), "shape [0, 4], expected [-1, 4]"),
        (with_shape(2, 4), "16 bytes of binary data, expected 32"),
        (with_shape(2**62, 4), "is larger than the limit of 1000000 bytes"),
        (twice(), "input 'image' is given twice"),
        (both(), "has contents beside raw_input_contents"),
        (Request(model_name="m"), "input 'image' is missing"),
        (typed(fp32_contents=[1.0]), "1 elements, expected 4 for [1, 4]"),
        (typed(int_contents=[1, 2, 3, 4]), "int_contents is given, expected fp32_contents for FP32"),
        (Request(model_name="m", raw_input_contents=[b""]), "1 raw_input_contents for 0 inputs"),
        (raw_request(IMAGE, {"image": ONE}, outputs=[{"name": "y"}]), "unknown output 'y'"),
        (raw_request(IMAGE, {"image": ONE}, outputs=[{"name": "image"}] * 2), "output 'image' is asked for twice"),
        (with_parameter("priority", int64_param=-1), "'priority' must be a whole number"),
        (with_parameter("timeout", string_param="soon"), "'timeout' must be a whole number"),
        (with_parameter("sequence_start", bool_param=True), "need a sequence_id"),
        (with_parameter("triton_x", bool_param=True), "is reserved"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(request_: Any, sentence: str) -> None:
    refusal = refused(request_)
    assert sentence in refusal.message
    assert refusal.status in {400, 413}


@pytest.mark.parametrize(
    ("datatype", "value"), [("INT8", 128), ("INT8", -129), ("INT16", 2**15), ("UINT8", 256), ("UINT16", 2**16)]
)
def test_a_number_that_its_datatype_has_not_is_refused(datatype: str, value: int) -> None:
    of = signature(x=(datatype, (-1,)))
    request = Request(model_name="m")
    field = FIELD_OF_DATATYPE[datatype]
    request.inputs.add(name="x", datatype=datatype, shape=[1], contents={field: [value]})
    assert "a number does not fit" in refused(request, of).message


@given(st.binary(max_size=300))
def test_random_bytes_are_a_request_or_a_refusal(data: bytes) -> None:
    status = 200
    try:
        head, raw = Heads(LIMITS).open(data)
        read_inputs(head, raw, plan_inference(head, len(raw), IMAGE, LIMITS))
    except Refusal as refusal:
        status = refusal.status
    assert status in {200, 400, 413}
