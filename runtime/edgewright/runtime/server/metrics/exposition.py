"""The Prometheus text format (version 0.0.4): families of samples as lines. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One number. `suffix` is for the parts of a histogram: `_bucket`, `_sum`, `_count`."""

    labels: Labels
    value: float
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, its kind, what it means, and its samples."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Iterable[Sample]


def exposition(families: Iterable[Family]) -> str:
    """Return the text of all families that have samples."""
    lines: list[str] = []
    for family in families:
        samples = [_line(family.name, sample) for sample in family.samples]
        if samples:
            lines += (f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}", *samples)
    return "\n".join(lines) + "\n"


def counter(name: str, help_text: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    return Family(name, "counter", help_text, (Sample(*each) for each in samples))


def gauge(name: str, help_text: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    return Family(name, "gauge", help_text, (Sample(*each) for each in samples))


def _line(name: str, sample: Sample) -> str:
    inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in sample.labels.items())
    number = str(sample.value) if isinstance(sample.value, int) else repr(float(sample.value))
    name += sample.suffix
    return f"{name}{{{inner}}} {number}" if inner else f"{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
