"""The Prometheus text: what it says can be read back, whatever the names are."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.metrics.exposition import Family, Sample, counter, exposition, gauge

LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@given(st.dictionaries(st.sampled_from(["model", "version", "code"]), st.text(max_size=20)), st.floats(allow_nan=False))
def test_labels_and_values_survive(labels: dict[str, str], value: float) -> None:
    text = exposition([gauge("edgewright_x", "Help.", [(labels, value)])])
    help_line, type_line, sample, end = text.split("\n") if "\n" not in "".join(labels.values()) else _lines(text)
    assert (help_line, type_line, end) == ("# HELP edgewright_x Help.", "# TYPE edgewright_x gauge", "")
    found = {key: _unescaped(content) for key, content in LABEL.findall(sample)}
    assert found == labels
    assert float(sample.rpartition(" ")[2]) == value


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    assert len(lines) == 4, "a line break in a label is escaped"
    return lines


def _unescaped(content: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], content)


def test_a_family_without_samples_is_left_out() -> None:
    assert exposition([counter("a_total", "A.", []), counter("b_total", "B.", [({}, 1)])]) == (
        "# HELP b_total B.\n# TYPE b_total counter\nb_total 1\n"
    )


def test_the_parts_of_a_histogram_stand_under_one_name() -> None:
    samples = [Sample({"le": "+Inf"}, 3, "_bucket"), Sample({}, 0.5, "_sum"), Sample({}, 3, "_count")]
    text = exposition([Family("t_seconds", "histogram", "T.", samples)])
    assert text.splitlines()[1:] == [
        "# TYPE t_seconds histogram",
        't_seconds_bucket{le="+Inf"} 3',
        "t_seconds_sum 0.5",
        "t_seconds_count 3",
    ]
