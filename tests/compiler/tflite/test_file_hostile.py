"""Damaged and crafted files: a model or a refusal, never another exception, and never much memory for a small file."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.faults import ModelError, UnsupportedModel
from edgewright.compiler.tflite.file.model import Model
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.schema import IDENTIFIER
from edgewright.compiler.tflite.file.write import write
from tests.compiler.tflite.file_models import dense, mixed, models

EXTREMES = (0, 1, 3, 4, 127, 255, 2**15, 2**16 - 1, 2**20, 2**24, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)
SEEDS = 25
MUTATIONS_PER_SEED = 40


def outcome(content: bytes) -> Model | None:
    """The model, None where it is refused; whatever else is raised fails the test."""
    try:
        return read(content, "test")
    except (ModelError, UnsupportedModel):
        return None


def mutated(content: bytes, rng: random.Random) -> bytes:
    """One or several of: flipped bits, words of extreme value, offsets moved, parts cut off, doubled or exchanged."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        place = rng.randrange(max(1, len(data) - 4))
        choice = rng.randrange(6)
        if choice == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif choice == 1:
            struct.pack_into("<I", data, place & ~3, rng.choice(EXTREMES))
        elif choice == 2:
            (word,) = struct.unpack_from("<I", data, place & ~3)
            struct.pack_into("<I", data, place & ~3, (word + rng.choice((-64, -4, -1, 1, 4, 64))) % 2**32)
        elif choice == 3:
            struct.pack_into("<I", data, place & ~3, rng.randrange(2 * len(data)))
        elif choice == 4:
            del data[place : place + rng.choice((1, 4, 64, len(data)))]
            data += bytes(8)
        else:
            source = rng.randrange(len(data))
            piece = data[source : source + rng.randrange(1, 64)]
            data[place : place + rng.choice((0, len(piece)))] = piece
    return bytes(data)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_mutated_files(seed: int) -> None:
    rng = random.Random(seed)
    content = write(mixed())
    assert outcome(content) is not None
    for _ in range(MUTATIONS_PER_SEED):
        outcome(mutated(content, rng))


@given(models(), st.randoms(use_true_random=False))
def test_mutated_files_of_any_model(model: Model, rng: random.Random) -> None:
    found = outcome(mutated(write(model), rng))
    if found is not None:
        assert outcome(write(found)) is not None


@given(st.binary(max_size=300))
def test_any_bytes_behind_the_identifier(content: bytes) -> None:
    outcome(content[:4].ljust(4, b"\x10") + IDENTIFIER + content[4:])


def test_every_length_of_a_file() -> None:
    content = write(mixed())
    assert [outcome(content[:length]) for length in range(0, len(content) - 64, 4)].count(None) > 0


def test_every_word_of_a_file_with_extreme_values() -> None:
    content = write(mixed())
    for place in range(0, len(content) - 3, 4):
        for word in (0, 2**31 - 1, 2**32 - 1, len(content) - 4):
            outcome(content[:place] + struct.pack("<I", word) + content[place + 4 :])


Part = Callable[[flatbuffers.Builder], int]


def crafted(
    tensors: tuple[Part, int], buffer: bytes = b"", operators: tuple[Part, int] | None = None, metadata: int = 0
) -> bytes:
    """A file whose vectors have so many offsets to one and the same table."""
    builder = flatbuffers.Builder(1 << 16)
    tensor_list = _repeated(builder, tensors)
    operator_list = _repeated(builder, operators) if operators else 0
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensor_list)
    if operator_list:
        schema.SubGraphAddOperators(builder, operator_list)
    graph = schema.SubGraphEnd(builder)
    graphs = _vector(builder, [graph])
    data = builder.CreateByteVector(buffer)
    schema.BufferStart(builder)
    schema.BufferAddData(builder, data)
    buffers = _vector(builder, [schema.BufferEnd(builder)] * 2)
    schema.MetadataStart(builder)
    schema.MetadataAddBuffer(builder, 1)
    notes = _vector(builder, [schema.MetadataEnd(builder)] * metadata)
    schema.OperatorCodeStart(builder)
    schema.OperatorCodeAddBuiltinCode(builder, 22)  # RESHAPE
    codes = _vector(builder, [schema.OperatorCodeEnd(builder)])
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    schema.ModelAddMetadata(builder, notes)
    schema.ModelAddOperatorCodes(builder, codes)
    builder.Finish(schema.ModelEnd(builder), IDENTIFIER)
    return bytes(builder.Output())


def _repeated(builder: flatbuffers.Builder, part: tuple[Part, int]) -> int:
    make, count = part
    return _vector(builder, [make(builder)] * count)


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in offsets:
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def tensor(name: str = "", shape: tuple[int, ...] = (), kind: int = 9, buffer: int = 0) -> Part:
    """A tensor's table; type 9 is INT8, 6 is BOOL."""

    def make(builder: flatbuffers.Builder) -> int:
        text = builder.CreateString(name)
        sizes = builder.CreateNumpyVector(np.array(shape, np.int32))
        schema.TensorStart(builder)
        schema.TensorAddName(builder, text)
        schema.TensorAddShape(builder, sizes)
        schema.TensorAddType(builder, kind)
        schema.TensorAddBuffer(builder, buffer)
        return int(schema.TensorEnd(builder))

    return make


def reshape(sizes: int) -> Part:
    """An operator's table with as many numbers in its options."""

    def make(builder: flatbuffers.Builder) -> int:
        numbers = builder.CreateNumpyVector(np.zeros(sizes, np.int32))
        schema.ReshapeOptionsStart(builder)
        schema.ReshapeOptionsAddNewShape(builder, numbers)
        options = schema.ReshapeOptionsEnd(builder)
        schema.OperatorStart(builder)
        schema.OperatorAddBuiltinOptionsType(builder, schema.BuiltinOptions.ReshapeOptions)
        schema.OperatorAddBuiltinOptions(builder, options)
        return int(schema.OperatorEnd(builder))

    return make


CRAFTED: dict[str, Callable[[], bytes]] = {
    "one name for 14 000 tensors": lambda: crafted((tensor("n" * 4000), 14_000)),
    "one shape for 14 000 tensors": lambda: crafted((tensor(shape=(1,) * 1000), 14_000)),
    "one buffer of truths for 8 000 tensors": lambda: crafted(
        (tensor(shape=(30_000,), kind=6, buffer=1), 8000), bytes(30_000)
    ),
    "one list of sizes for 8 000 operators": lambda: crafted((tensor(), 1), operators=(reshape(8000), 8000)),
    "one buffer for 1 000 metadata": lambda: crafted((tensor(), 1), bytes(50_000), metadata=1000),
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_small_file_that_says_very_much_is_refused(name: str) -> None:
    content = CRAFTED[name]()
    assert len(content) < 2**16 + 1000
    tracemalloc.start()
    with pytest.raises(ModelError, match=r"what its offsets point to is longer than the file|at most 8 sizes"):
        read(content, "crafted")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_one_buffer_for_many_tensors_is_not_copied() -> None:
    content = crafted((tensor(shape=(30_000,), buffer=1), 8000), bytes(30_000))
    tracemalloc.start()
    model = read(content, "crafted")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(model.tensors) == 8000
    assert peak < 32 << 20


def test_vectors_longer_than_the_file() -> None:
    content = write(dense(np.ones((5, 7), np.float32), np.ones(5, np.float32)))
    lengths = [place for place in range(0, len(content) - 3, 4) if content[place : place + 4] == b"\x8c\0\0\0"]
    assert lengths, "the weight's 140 bytes"
    for place in lengths:
        for length in (2**31, 2**32 - 1, len(content)):
            assert outcome(content[:place] + struct.pack("<I", length) + content[place + 4 :]) is None


def test_tables_that_point_to_themselves() -> None:
    """Every offset to a table leads to the root, whose fields are then read as those of other tables."""
    content = write(mixed())
    root = struct.unpack_from("<I", content)[0]
    for place in range(8, len(content) - 3, 4):
        outcome(content[:place] + struct.pack("<I", (root - place) % 2**32) + content[place + 4 :])
