"""docs/formats/target.md: its examples load, its table names every key, and its error is the real one."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edgewright.targets.board import Accelerator, Board, BoardError, Cpu, EngineSupport, LatencyModel, Memory
from edgewright.targets.catalog import board_names, load_board

WriteBoard = Callable[..., Path]
DOCUMENT = Path(__file__).parents[2] / "docs/formats/target.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: tomllib.loads(text)["name"])
def test_examples_load(example: str, write: WriteBoard) -> None:
    board = load_board(str(write(example)))
    assert board.name == tomllib.loads(example)["name"]


def test_there_is_an_inheriting_and_a_complete_example() -> None:
    inheriting, complete = (tomllib.loads(text) for text in EXAMPLES)
    assert inheriting["inherits"] in board_names()
    for struct, table in (
        (Board, complete),
        (Cpu, complete["cpu"]),
        (Memory, complete["memory"]),
        (Accelerator, complete["accelerators"][0]),
        (EngineSupport, complete["engines"][-1]),
        (LatencyModel, complete["latency"][0]),
    ):
        assert set(table) == {field.encode_name for field in msgspec.structs.fields(struct)}


def test_the_shown_error_is_the_real_one(write: WriteBoard) -> None:
    with pytest.raises(BoardError) as caught:
        load_board(str(write(EXAMPLES[0].replace("[cpu]\n", "[cpu]\ncores = 0\n"), "my-board.toml")))
    assert f"edgewright: {str(caught.value).rpartition('/')[2]}" in TEXT
