"""The table of operators in docs/formats/tflite.md, made from the code that writes them.

    python -m edgewright.compiler.tflite.emitter.support [PAGE]

prints the table, or renews it in a page.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .operators import OPERATORS, Operator

START: Final = "<!-- generated: operators -->"
END: Final = "<!-- end -->"
REFUSED: Final = "Not:"
COLUMNS: Final = ("ONNX", "TFLite", "int8", "int16", "refused")


def table(operators: Mapping[str, Operator] = OPERATORS) -> str:
    """Markdown, one row per ONNX operator in alphabetical order."""
    rows = [_row(name, operators[name]) for name in sorted(operators)]
    lines = [COLUMNS, ("---",) * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def renewed(page: str, operators: Mapping[str, Operator] = OPERATORS) -> str:
    """A page with the table of now between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, start, rest = page.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"expected {START!r} and then {END!r} in the page; put them where the table belongs")
    return f"{before}{START}\n\n{table(operators)}\n\n{END}{after}"


def _row(name: str, operator: Operator) -> tuple[str, ...]:
    written, refused = _said(name, operator)
    types = ("yes" if kind in operator.form.integers else "in float" for kind in ("int8", "int16"))
    return (f"`{name}`", _cell(written), *types, _cell(refused))


def _said(name: str, operator: Operator) -> tuple[str, str]:
    """What the docstring says is written, and what is refused."""
    written, *rest = (inspect.getdoc(operator.lower) or "").split("\n\n")
    if not written:
        raise ValueError(f"{name}: its function has no docstring to say what it writes")
    refused = next((part.removeprefix(REFUSED) for part in rest if part.startswith(REFUSED)), "")
    return _joined(written), _joined(refused)


def _joined(lines: str) -> str:
    return " ".join(lines.split()).rstrip(".")


def _cell(sentence: str) -> str:
    """TFLite's names as code; a bar would end the cell."""
    return re.sub(r"\b[A-Z][A-Z0-9_]{2,}\b", lambda name: f"`{name[0]}`", sentence.replace("|", "\\|"))


def main(arguments: Sequence[str]) -> None:
    """Prints the table, or renews it in the page that is named."""
    if not arguments:
        print(table())
        return
    page = Path(arguments[0])
    page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
