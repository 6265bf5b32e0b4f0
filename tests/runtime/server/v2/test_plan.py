"""Plans of requests: kept ones say what fresh ones say; classes, priorities, keys and half precision."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.http.messages import Request
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.pipeline import Outcome, SequenceStep, Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.classification import best_classes
from edgewright.runtime.server.v2.inference import Inference, read_request, write_response
from edgewright.runtime.server.v2.plan import plan_request
from edgewright.runtime.server.v2.plans import Plans

LIMITS = Limits()


def signature(datatype: Any = "FP32", shape: tuple[int, ...] = (-1, 2)) -> Signature:
    spec = TensorSpec(name="x", datatype=datatype, shape=shape)
    return Signature("m", "1", {"x": spec}, {"x": spec})


OF = signature()
IDS = st.none() | st.text(max_size=5) | st.sampled_from(["a", "", '"', "\\", "\x00", "grün", "a" * 200])


def request(head: Any, tail: bytes = b"", **headers: bytes) -> Request:
    text = json.dumps(head).encode()
    fields = {name.replace("_", "-").encode(): value for name, value in headers.items()}
    fields[b"inference-header-content-length"] = b"%d" % len(text)
    return Request(b"POST", b"/", fields, memoryview(text + tail), True, 1, 0)


def binary(rows: int = 1, size: int = 8, datatype: str = "FP32", **changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": datatype, "shape": [rows, 2], "parameters": {"binary_data_size": rows * size}}
    return {"inputs": [tensor], **changes}


def refused(head: Any, tail: bytes = b"", of: Signature = OF, **headers: bytes) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read_request(request(head, tail, **headers), of, LIMITS)
    return caught.value


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(-1, 1), IDS), max_size=30))
def test_a_kept_plan_says_what_a_fresh_one_says(asked: list[tuple[int, int, str | None]]) -> None:
    plans = Plans()
    for rows, off, identity in asked:
        head = binary(rows) if identity is None else {"id": identity, **binary(rows)}
        tail = np.arange(rows * 2, dtype=np.float32).tobytes() + bytes(max(0, off))
        incoming = request(head, tail[:off] if off < 0 else tail)
        answers: list[Any] = []
        for memory in (plans, None):
            try:
                got = read_request(incoming, OF, LIMITS, memory)
                answers.append((got.inputs["x"].tolist(), got.rows, got.wanted, got.id, got.scheduling))
            except Refusal as error:
                answers.append((error.status, error.message))
        assert answers[0] == answers[1]


def test_plans_of_another_model_are_not_mixed_up() -> None:
    plans, other = Plans(), signature(shape=(-1, 3))
    read_request(request(binary(), bytes(8)), OF, LIMITS, plans)
    with pytest.raises(Refusal):
        read_request(request(binary(), bytes(8)), other, LIMITS, plans)


def test_plans_are_few_whatever_clients_send() -> None:
    plans = Plans()
    kept = []
    for number in range(600):
        text = json.dumps(binary(parameters={"note": number})).encode()
        kept.append((text, plans.plan(text, OF, LIMITS)[0]))
    assert plans.plan(kept[-1][0], OF, LIMITS)[0] is kept[-1][1]
    assert plans.plan(kept[0][0], OF, LIMITS)[0] is not kept[0][1]


@pytest.mark.parametrize("spacing", [(",", ":"), (", ", ": ")])
def test_an_id_in_front_is_of_the_request_and_not_of_the_plan(spacing: tuple[str, str]) -> None:
    plans = Plans()
    texts = [json.dumps({"id": identity, **binary()}, separators=spacing).encode() for identity in ("a", "b")]
    (first, first_id), (second, second_id) = (plans.plan(text, OF, LIMITS) for text in texts)
    assert first is second
    assert (first_id, second_id, first.id) == ("a", "b", None)


@pytest.mark.parametrize("head", [binary(id="of one request"), binary(parameters={"note": "x" * 3000})])
def test_what_does_not_come_again_is_not_kept(head: Any) -> None:
    plans, text = Plans(), json.dumps(head).encode()
    assert plans.plan(text, OF, LIMITS)[0] is not plans.plan(text, OF, LIMITS)[0]


def test_numbers_in_json_are_not_shared_between_requests() -> None:
    specs = {name: TensorSpec(name=name, datatype="FP32", shape=(-1, 2)) for name in "xy"}
    head = binary()
    head["inputs"].append({"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]})
    incoming, of, plans = request(head, bytes(8)), Signature("m", "1", specs, specs), Plans()
    first, second = (read_request(incoming, of, LIMITS, plans).inputs["y"] for _ in range(2))
    assert first.tolist() == second.tolist() == [[1, 2]]
    assert not np.shares_memory(first, second)


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_every_byte_behind_the_json_belongs_to_an_input(size: int) -> None:
    assert refused(binary(), bytes(size)).status == 400


def test_what_a_request_asks_of_the_scheduler() -> None:
    parameters = {"priority": 2, "timeout": 5000, "key": "camera-3", "sequence_id": 7, "sequence_start": True}
    got = read_request(request(binary(parameters=parameters), bytes(8), x_edgewright_key=b"other"), OF, LIMITS)
    assert got.scheduling == (2, 5000, "camera-3", SequenceStep("7", start=True, end=False))


def test_a_key_may_come_as_a_header_field() -> None:
    plans = Plans()
    for key in (b"camera-3", b"camera-4"):  # the plan is the same, the key is not
        got = read_request(request(binary(), bytes(8), x_edgewright_key=key), OF, LIMITS, plans)
        assert got.scheduling.key == key.decode()
    assert read_request(request(binary(), bytes(8)), OF, LIMITS, plans).scheduling.key == ""
    assert refused(binary(), bytes(8), x_edgewright_key=b"k" * 300).status == 400


@pytest.mark.parametrize(
    "parameters",
    [
        {"priority": -1},
        {"priority": "high"},
        {"timeout": 1.5},
        {"timeout": True},
        {"sequence_start": True},
        {"sequence_id": 1, "sequence_end": "yes"},
        {"key": "k" * 300},
        {"binary_data_output": "yes"},
        {"shared_memory_region": "r"},
        {"triton_anything": 1},
    ],
)
def test_parameters_that_mean_something_are_checked(parameters: dict[str, Any]) -> None:
    assert refused(binary(parameters=parameters), bytes(8)).status == 400


@pytest.mark.parametrize("value", ["text", 3, 2.5, True, None])
def test_other_parameters_are_ignored(value: Any) -> None:
    head = binary(parameters={"note": value}, outputs=[{"name": "x", "parameters": {"note": value}}])
    assert read_request(request(head, bytes(8)), OF, LIMITS).rows == 1


@pytest.mark.parametrize("shape", [[2**62, 4], [2**63, 2], [-1, 2], [0, 2], [1] * 5000])
def test_shapes_that_overflow_are_refused(shape: list[int]) -> None:
    head = binary()
    head["inputs"][0]["shape"] = shape
    assert refused(head, bytes(8)).status in {400, 413}


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_goes_through_bit_by_bit(datatype: Any) -> None:
    tail = bytes.fromhex("803f00c0")
    head = binary(size=4, datatype=datatype, parameters={"binary_data_output": True})
    of = signature(datatype)
    got = read_request(request(head, tail), of, LIMITS)
    response = write_response(got, Outcome(got.inputs, None, "m", "1"), of)
    assert bytes(response.body[1]) == tail
    assert "binary" in refused(binary(size=4, datatype=datatype), tail, of).message


def classified(scores: Any, count: int, *, as_binary: bool = False) -> Any:
    of = signature(shape=(-1, len(scores[0])))
    array = np.array(scores, np.float32)
    got = Inference({}, len(array), {"x": as_binary}, None, classes={"x": count})
    return write_response(got, Outcome({"x": array}, None, "m", "1"), of)


def test_the_best_classes_come_first_and_equal_ones_by_index() -> None:
    (output,) = json.loads(bytes(classified([[0.1, 0.5, 0.5], [3, 2, 1]], 2).body[0]))["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert output["data"] == ["0.500000:1", "0.500000:2", "3.000000:0", "2.000000:1"]


def test_classes_as_binary_and_more_than_there_are() -> None:
    response = classified([[1, 2]], 5, as_binary=True)
    (output,) = json.loads(bytes(response.body[0]))["outputs"]
    assert output["shape"] == [1, 2]
    assert bytes(response.body[1]) == b"\x0a\x00\x00\x002.000000:1\x0a\x00\x00\x001.000000:0"


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=8), st.integers(1, 10))
def test_classes_are_sorted(scores: list[int], count: int) -> None:
    labels = ("first", "second")
    found = best_classes(np.array(scores), count, batched=False, labels=labels).tolist()
    parts = [text.decode().split(":") for text in found]
    assert [int(score) for score, *_ in parts] == sorted(scores, reverse=True)[:count]
    for score, index, *label in parts:
        assert scores[int(index)] == int(score)
        assert label == ([labels[int(index)]] if int(index) < 2 else [])


@pytest.mark.parametrize("count", [-1, 1.5, True, "three", 2**40])
def test_a_count_of_classes_is_a_number(count: Any) -> None:
    head = binary(outputs=[{"name": "x", "parameters": {"classification": count}}])
    assert refused(head, bytes(8)).status == 400


def test_texts_have_no_classes() -> None:
    with pytest.raises(Refusal):
        best_classes(np.array([b"a"], np.object_), 1, batched=False)


@given(st.binary(max_size=120))
def test_any_bytes_are_planned_or_refused(text: bytes) -> None:
    with contextlib.suppress(Refusal):  # anything else fails the test
        plan_request(text, OF, LIMITS)
