"""`edgewright targets`: output, JSON and exit codes, through the real root command."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgewright.targets.catalog import board_names, load_board
from edgewright.targets.cli import targets
from edgewright.targets.faults import Fault

WriteBoard = Callable[..., Path]
OWN = 'name = "own"\ninherits = "raspberry-pi-5"\n'


def run(*arguments: str) -> Result:
    return CliRunner().invoke(targets, list(arguments), catch_exceptions=True)


@pytest.mark.parametrize("command", ["list", "show", "validate", "diff"])
def test_help_has_examples(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"edgewright targets {command}" in result.output
    assert "--json" in result.output


def test_list_shows_every_board() -> None:
    result = run("list")
    assert result.exit_code == 0
    assert all(name in result.output for name in board_names())


def test_list_json_is_the_boards() -> None:
    boards = json.loads(run("list", "--json").output)
    assert [board["name"] for board in boards] == list(board_names())
    assert boards[1]["digest"] == load_board(boards[1]["name"]).digest()


def test_show_prints_facts_and_digest() -> None:
    board = load_board("imx93")
    output = run("show", "imx93").output
    for text in ("Cortex-A55", "1.7 GHz", "2 GiB", "ethos-u65", board.digest()[:30]):
        assert text in output
    shown = json.loads(run("show", "imx93", "--json").output)
    assert shown["cpu"]["clock_hz"] == 1_700_000_000
    assert shown["digest"] == board.digest()


def test_show_takes_a_file(write: WriteBoard) -> None:
    assert json.loads(run("show", str(write(OWN)), "--json").output)["name"] == "own"


def test_show_of_an_unknown_board_is_the_users_fault() -> None:
    error = run("show", "nope").exception
    assert isinstance(error, Fault)
    assert error.exit_code == 2


def test_validate_checks_every_file_and_fails_if_one_is_wrong(write: WriteBoard) -> None:
    good, bad = write(OWN, "good.toml"), write(OWN + "[cpu]\ncores = 0\n", "bad.toml")
    result = run("validate", str(bad), str(good))
    assert result.exit_code == 2
    assert f"{good}: valid, own sha256:" in result.stdout
    assert f"{bad}: key cpu.cores: expected a whole number >= 1, got 0" in result.stderr
    verdicts = json.loads(run("validate", str(bad), str(good), "--json").stdout)
    assert [verdict["valid"] for verdict in verdicts] == [False, True]
    assert run("validate", str(good)).exit_code == 0
    assert run("validate").exit_code == 2


def test_validate_accepts_all_that_ships() -> None:
    assert run("validate", *board_names()).exit_code == 0


def test_diff_names_the_keys_that_differ_and_no_other(write: WriteBoard) -> None:
    own = write(
        OWN + '[cpu]\nisa = ["asimddp", "asimdhp", "fphp", "asimd", "fp"]\n[memory]\nram_bytes = 4_294_967_296\n'
    )
    difference = json.loads(run("diff", "raspberry-pi-5", str(own), "--json").output)
    assert (difference["left"], difference["right"]) == ("raspberry-pi-5", "own")
    assert {row["key"]: (row["left"], row["right"]) for row in difference["differences"]} == {
        "name": ("raspberry-pi-5", "own"),
        "memory.ram_bytes": (8_589_934_592, 4_294_967_296),
        "sources.cpu.isa": (load_board("raspberry-pi-5").sources["cpu.isa"], None),
    }
    table = run("diff", "raspberry-pi-5", str(own)).output
    assert "8 GiB" in table
    assert "4 GiB" in table


def test_diff_of_equal_boards_says_so() -> None:
    assert "imx93 and imx93 are equal" in run("diff", "imx93", "imx93").output


def test_diff_sees_tables_that_only_one_board_has() -> None:
    rows = json.loads(run("diff", "raspberry-pi-5", "imx93", "--json").output)["differences"]
    assert {"key": "accelerators.ethos-u65.macs_per_cycle", "left": None, "right": 256} in rows


def test_the_installed_command_ends_in_one_line_and_code_2(write: WriteBoard) -> None:
    bad = write(OWN + "[cpu]\ncores = 0\n")
    done = subprocess.run(
        [sys.executable, "-m", "edgewright.runtime.cli", "targets", "show", str(bad)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == f"edgewright: {bad}: key cpu.cores: expected a whole number >= 1, got 0\n"


def test_help_imports_neither_msgspec_nor_rich() -> None:
    code = "import sys, edgewright.targets.cli as c; print(sorted({'msgspec', 'rich', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
