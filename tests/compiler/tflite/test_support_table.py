"""The page lists the operators that the emitter writes, in the words of the functions that write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.compiler.tflite.emitter.operators import OPERATORS, Operator
from edgewright.compiler.tflite.emitter.sites import Form, Site
from edgewright.compiler.tflite.emitter.support import END, START, main, renewed, table
from edgewright.compiler.tflite.emitter.walk import Walk
from tests.layering import ROOT

PAGE = ROOT / "docs/formats/tflite.md"


def spin(_walk: Walk, _site: Site) -> None:
    """SPIN_2D, or TURN|TWIST where it
    has to.

    Whatever else there is to know.

    Not: more than
    one turn.
    """


def turn(_walk: Walk, _site: Site) -> None:
    """One."""


def silent(_walk: Walk, _site: Site) -> None: ...


def test_the_page_has_the_table_of_now() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == renewed(page), f"run: python -m edgewright.compiler.tflite.emitter.support {PAGE.relative_to(ROOT)}"


def test_a_row_says_what_the_docstring_says() -> None:
    rows = table({"Turn": Operator(turn), "Spin": Operator(spin, Form(integers=frozenset({"int8"})))})
    assert rows.splitlines()[2:] == [
        r"| `Spin` | `SPIN_2D`, or `TURN`\|`TWIST` where it has to | yes | in float | more than one turn |",
        "| `Turn` | One | in float | in float |  |",
    ]


def test_an_operator_that_says_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match=r"Spin.*no docstring"):
        table({"Spin": Operator(silent)})


def test_every_operator_has_one_row() -> None:
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == sorted(OPERATORS)
    assert {row.replace(r"\|", "").count("|") for row in rows} == {6}


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected.*generated"):
        renewed("# TFLite\n")
    with pytest.raises(ValueError, match=r"expected.*generated"):
        renewed(f"{END} {START}")


def test_only_what_is_between_the_marks_changes() -> None:
    page = renewed(f"before\n{START}\nold\n{END}\nafter\n")
    assert page.startswith(f"before\n{START}\n\n| ONNX")
    assert page.endswith(f"|\n\n{END}\nafter\n")
    assert renewed(page) == page


def test_the_command_prints_the_table() -> None:
    command = [sys.executable, "-m", "edgewright.compiler.tflite.emitter.support"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == table() + "\n"


def test_the_command_renews_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{START}\n{END}\n", encoding="utf-8")
    main([str(page)])
    assert table() in page.read_text(encoding="utf-8")
