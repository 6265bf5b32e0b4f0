"""Files as runtimes want them: data aligned, names in the signature, the same bytes every time, and never too large."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given

from edgewright.compiler.faults import UnsupportedModel
from edgewright.compiler.tflite.file.buffers import ALIGNMENT_BYTES, Buffers
from edgewright.compiler.tflite.file.model import Model, Operator, Port, Tensor
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.schema import OPERATORS, OPTIONS, options_of
from edgewright.compiler.tflite.file.write import write
from tests.compiler.tflite.file_models import dense, models, same
from tests.compiler.tflite.runs import run_litert

NET = dense(np.arange(35, dtype=np.float32).reshape(5, 7), np.ones(5, np.float32))


def starts_of_data(content: bytes) -> list[int]:
    """Offsets in the file at which data of buffers begin."""
    root = schema.Model.GetRootAs(content, 0)
    whole, starts = np.frombuffer(content, np.uint8), []
    for index in range(root.BuffersLength()):
        if root.Buffers(index).DataLength():
            data = root.Buffers(index).DataAsNumpy()
            starts.append(data.__array_interface__["data"][0] - whole.__array_interface__["data"][0])
    return starts


@given(models())
def test_data_begin_at_multiples_of_16_bytes(model: Model) -> None:
    starts = starts_of_data(write(model))
    assert [start % ALIGNMENT_BYTES for start in starts] == [0] * len(starts)


@given(models())
def test_what_is_written_is_read(model: Model) -> None:
    content = write(model)
    found = read(content, "test")
    same(model, found)
    assert write(found) == write(read(write(found), "test"))


def test_every_option_table_belongs_to_an_operator() -> None:
    assert {options_of(operator) for operator in OPERATORS} - {None} == set(OPTIONS) - {"NONE"}


def test_lists_in_options_have_the_schemas_types() -> None:
    tensors = (Tensor("x", "FLOAT32", (2,)), Tensor("y", "INT32", (2,)))
    step = Operator("BUCKETIZE", (0,), (1,), {"boundaries": (0.5, 1.25)})
    model = Model(tensors, (step,), (Port("x", 0),), (Port("y", 1),))
    assert read(write(model), "test").operators[0].options == {"boundaries": (0.5, 1.25)}


def test_the_same_bytes_in_every_process() -> None:
    program = (
        "import hashlib; from edgewright.compiler.tflite.file.write import write; "
        "from tests.compiler.tflite.file_models import mixed; print(hashlib.sha256(write(mixed())).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_equal_constants_lie_in_the_file_once() -> None:
    weight = np.ones((64, 64), np.float32)
    twice = replace(NET, tensors=(*NET.tensors, *(Tensor(n, "FLOAT32", (64, 64), data=weight.copy()) for n in "uv")))
    assert len(write(twice)) < len(write(NET)) + 1.1 * weight.nbytes


def test_any_memory_order_is_written_in_the_order_of_indices() -> None:
    weight = np.asfortranarray(np.arange(35, dtype=">f4").reshape(5, 7))
    found = read(write(dense(weight, np.ones(5, np.float32))), "test")
    assert found.tensors[1].data is not None
    np.testing.assert_array_equal(found.tensors[1].data, weight)


def test_litert_knows_ports_by_their_names() -> None:
    model = replace(NET, inputs=(Port("given to it", 0),), outputs=(Port("taken", 3), Port("taken again", 3)))
    found = run_litert(write(model), {"given to it": np.ones((1, 7), np.float32)})
    expected = np.arange(35, dtype=np.float32).reshape(5, 7).sum(1)[None] + 1
    np.testing.assert_array_equal(found["taken"], expected)
    assert read(write(model), "test").outputs == model.outputs


def test_what_no_file_can_hold_is_refused_before_it_is_copied() -> None:
    huge = np.broadcast_to(np.int8(1), (2**16, 2**15))
    model = replace(NET, tensors=(*NET.tensors, Tensor("huge", "INT8", huge.shape, data=huge)))
    with pytest.raises(UnsupportedModel, match=r"'huge' take 2147483648 bytes.*at most 2147483647: store weights in"):
        write(model)


def test_constants_that_are_too_large_together_are_refused() -> None:
    buffers = Buffers(limit_bytes=100)
    assert buffers.of(np.zeros(60, np.int8), "a") == buffers.of(np.zeros(60, np.int8), "again") == 1
    with pytest.raises(UnsupportedModel, match="'b' take 120 bytes"):
        buffers.of(np.ones(60, np.int8), "b")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (replace(NET, operators=(Operator("ADD", (0, 0), (3,), {"speed": 1}),)), "ADD has no option 'speed'"),
        (replace(NET, operators=(Operator("RELU", (0,), (3,), {"slope": 1}),)), "RELU takes no options"),
        (replace(NET, outputs=(Port("y", 3), Port("y", 3))), "two ports of one name"),
    ],
)
def test_our_own_mistakes_are_not_written(broken: Model, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write(broken)
