"""What a board is: bounds, equality, digest."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.targets.board import Board
from edgewright.targets.catalog import board_names, load_board

SHIPPED = board_names()[1:]


def shuffled(value: Any, randomness: random.Random) -> Any:
    """The same data with its keys in another order."""
    if isinstance(value, dict):
        keys = list(value)
        randomness.shuffle(keys)
        return {key: shuffled(value[key], randomness) for key in keys}
    return [shuffled(item, randomness) for item in value] if isinstance(value, list | tuple) else value


@given(name=st.sampled_from(SHIPPED), seed=st.integers(0, 2**32))
def test_digest_does_not_depend_on_the_order_of_keys_or_flags(name: str, seed: int) -> None:
    board = load_board(name)
    randomness = random.Random(seed)
    data = shuffled(msgspec.to_builtins(board), randomness)
    randomness.shuffle(data["cpu"]["isa"])
    assert msgspec.convert(data, Board).digest() == board.digest()


@given(name=st.sampled_from(SHIPPED))
def test_a_board_survives_json(name: str) -> None:
    board = load_board(name)
    assert msgspec.json.decode(msgspec.json.encode(board), type=Board) == board


@pytest.mark.parametrize(
    ("path", "value", "same"),
    [
        (("description",), "other words", True),
        (("sources",), {}, True),
        (("latency",), [], True),
        (("name",), "other", False),
        (("family",), "cpu", False),
        (("arch",), "armv7l", False),
        (("daemon",), False, False),
        (
            ("accelerators",),
            [{"name": "gpu", "kind": "gpu", "clock_hz": 10**9, "precisions": ["int8"], "macs_per_cycle": 1}],
            False,
        ),
        (("cpu", "clock_hz"), 2_300_000_000, False),
        (("cpu", "isa"), ["asimd"], False),
        (("cpu", "int8", "u8s8"), "saturating16", False),
        (("memory", "ram_bytes"), 4_294_967_296, False),
    ],
)
def test_digest_covers_the_hardware_and_no_prose(path: tuple[str, ...], value: object, same: bool) -> None:
    board = load_board("raspberry-pi-5")
    data = json.loads(msgspec.json.encode(board))
    node = data
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    assert (msgspec.convert(data, Board).digest() == board.digest()) is same


def test_shipped_boards_have_different_digests() -> None:
    assert len({load_board(name).digest() for name in SHIPPED}) == len(SHIPPED)


def test_supports_asks_engine_and_precision_together() -> None:
    board = load_board("jetson-orin-nano")
    assert board.supports("tensorrt", "float16")
    assert not board.supports("onnxruntime", "float16")
    assert not board.supports("litert", "float16")
