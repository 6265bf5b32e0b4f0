"""Do the fleet's gates stop what is bad, and nothing else?

    python -m bench.gates                  all parts, results/gates.json
    python -m bench.gates --part 1 2       only these; the figures of the others stay
    python -m bench.gates --quick          far fewer runs
    python -m bench.gates --check          also exit 1 where a figure misses its limit

Part n is `rollout_gates/part_n.py`: `measure(quick)` gives figures; `LIMITS` bounds figures of the same name from
above, or the part's own `broken(figures)` says what they break; `rows(figures)` says them for people.

1. failed installs against an absolute limit, beside hawkBit's and AWS's rules
2. a loss of accuracy against controls
3. a bad board and a site that drifts, told apart
4. drift statistics beside scipy's and Evidently's
5. lives of fleets in which everything goes wrong
6. the time that one decision takes
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import record

PARTS = tuple(
    sorted(int(path.stem.removeprefix("part_")) for path in Path(__file__).with_name("rollout_gates").glob("part_*.py"))
)


def broken(part: ModuleType, figures: dict[str, Any]) -> list[str]:
    """Return what a part's figures break of its limits."""
    if hasattr(part, "broken"):
        return list(part.broken(figures))
    limits: dict[str, float] = part.LIMITS
    return [f"{name} is {figures[name]}, above {most:g}" for name, most in limits.items() if figures[name] > most]


def rows(part: ModuleType, number: int, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return a part's figures for people."""
    if hasattr(part, "rows"):
        return list(part.rows(figures))
    plain = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return [(f"{number} {name}", "edgewright", f"{value:g}") for name, value in plain.items()]


def kept() -> dict[str, Any]:
    """Return the figures of an earlier run."""
    path = record.RESULTS / "gates.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))["figures"]) if path.exists() else {}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, nargs="+", choices=PARTS, default=PARTS, help="only these parts")
    parser.add_argument("--quick", action="store_true", help="far fewer runs; results are not written")
    parser.add_argument("--check", action="store_true", help="exit 1 where a figure misses its limit")
    options = parser.parse_args()
    console = Console()
    missed: list[str] = []
    figures: dict[str, Any] = {}
    table = Table("figure", "rule", "value", title="gates")
    for number in options.part:
        part = importlib.import_module(f"bench.rollout_gates.part_{number}")
        found = part.measure(options.quick)
        figures[f"part_{number}"] = found
        missed += [f"part {number}: {each}" for each in broken(part, found)]
        for row in rows(part, number, found):
            table.add_row(*row)
    console.print(table)
    for each in missed:
        console.print(f"missed: {each}", style="red")
    if not options.quick:
        record.write("gates", kept() | figures, packages=("numpy",))
    if options.check and missed:
        sys.exit(1)


if __name__ == "__main__":
    main()
