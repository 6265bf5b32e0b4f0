"""The drift reference: edges that fit the data, counts that add up, the same on compiler and device."""

import subprocess
import sys
import timeit
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgewright.bundle.calibrate import BINS, MAX_CLASSES
from edgewright.bundle.errors import DriftReferenceError
from edgewright.bundle.manifest import TensorSpec
from edgewright.bundle.observe import Observer, build_reference
from edgewright.bundle.reference import Reference, decode_reference, encode_reference, read_reference, write_reference
from tests.bundle.samples import sample_reference

Arrays = dict[str, np.ndarray]


def counted(reference: Reference, inputs: Arrays, outputs: Arrays) -> list[list[int]]:
    """Fresh counts, one list for each histogram."""
    cells = np.zeros(reference.cells, np.uint64)
    Observer(reference).observe(inputs, outputs, cells)
    ends = np.cumsum([len(histogram.counts) for histogram in reference.histograms])
    return [part.tolist() for part in np.split(cells, ends[:-1])]


def by_name(reference: Reference, name: str) -> tuple[int, ...]:
    return next(histogram.counts for histogram in reference.histograms if histogram.name == name)


def test_round_trip(tmp_path: Path) -> None:
    write_reference(tmp_path / "r", sample_reference())
    assert read_reference(tmp_path / "r") == sample_reference() == read_reference((tmp_path / "r").read_bytes())


def test_bytes_are_standard_cbor() -> None:
    assert cbor2.loads(encode_reference(sample_reference()))["histograms"][0]["counts"] == [10, 40, 40, 10]


def test_shared_values_are_refused_before_they_can_grow() -> None:
    """Each level holds the level below ten times over: with a few levels a small file would fill the memory."""
    laughs = b"\xd8\x1c\x80"
    for level in range(2):
        laughs = b"\xd8\x1c\x8a" + laughs + b"\xd8\x1d" + bytes([2 - level]) * 9
    with pytest.raises(DriftReferenceError, match="semantic tag 28"):
        decode_reference(laughs)


def test_no_numpy_is_needed_to_read_it() -> None:
    code = "import sys, edgewright.bundle.reference; print('numpy' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        == "False"
    )


class TestEdges:
    def test_columns_get_bins_of_equal_counts(self) -> None:
        x = np.random.default_rng(0).normal(size=(2000, 3)).astype(np.float32)
        reference = build_reference({"x": x}, {})
        assert [histogram.name for histogram in reference.histograms] == ["x[0]", "x[1]", "x[2]"]
        for histogram in reference.histograms:
            assert len(histogram.counts) == BINS
            assert all(95 <= count <= 105 for count in histogram.counts)

    def test_a_shared_value_gets_a_bin_of_its_own(self) -> None:
        x = np.concatenate([np.zeros(500), np.linspace(1, 2, 500)]).reshape(-1, 1)
        histogram = build_reference({"x": x}, {}).histograms[0]
        at_zero = int(np.searchsorted(histogram.edges, 0.0, side="right"))
        assert histogram.counts[at_zero] == 500
        assert counted(build_reference({"x": x}, {}), {"x": np.array([[1e-9]])}, {})[0][at_zero] == 0

    def test_a_constant_column_shows_any_change(self) -> None:
        reference = build_reference({"x": np.full((50, 1), 3.0, np.float32)}, {})
        assert reference.histograms[0].counts == (0, 50, 0)
        assert counted(reference, {"x": np.array([[2.9], [3.0], [3.1]], np.float32)}, {}) == [[1, 1, 1]]

    def test_only_nan(self) -> None:
        assert build_reference({"x": np.full((5, 1), np.nan)}, {}).histograms[0].counts == (0, 5)

    @pytest.mark.parametrize(
        ("shape", "layout", "names"),
        [
            ((9, 40), None, ["x mean", "x std", "x min", "x max", "x nonfinite"]),
            ((9, 3, 8, 8), None, ["x mean", "x std", "x min", "x max", "x nonfinite"]),
            ((9, 5, 8, 8), "NCHW", ["x mean", "x std", "x min", "x max", "x nonfinite"]),
            ((9, 2, 8, 8), "NCHW", [f"x[{c}] {s}" for c in (0, 1) for s in ("mean", "std", "min", "max", "nonfinite")]),
            ((9, 8, 8, 2), "NHWC", [f"x[{c}] {s}" for c in (0, 1) for s in ("mean", "std", "min", "max", "nonfinite")]),
            ((9,), None, ["x mean", "x std", "x min", "x max", "x nonfinite"]),
        ],
    )
    def test_what_is_watched(self, shape: tuple[int, ...], layout: str | None, names: list[str]) -> None:
        spec = TensorSpec(name="x", datatype="UINT8", shape=shape, layout=layout)
        x = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
        reference = build_reference({"x": x}, {}, tensors=[spec])
        assert [histogram.name for histogram in reference.histograms] == names
        assert all(sum(histogram.counts) == 9 for histogram in reference.histograms)

    def test_text_is_not_watched(self) -> None:
        assert build_reference({"x": np.array([["a"], ["b"]])}, {}).histograms == ()

    def test_layouts_agree(self) -> None:
        x = np.random.default_rng(1).normal(size=(30, 3, 90, 70)).astype(np.float32)
        specs = [TensorSpec(name=name, datatype="FP32", shape=(), layout=name) for name in ("NCHW", "NHWC")]
        first = build_reference({"NCHW": x}, {}, tensors=specs)
        last = build_reference({"NHWC": np.ascontiguousarray(np.moveaxis(x, 1, 3))}, {}, tensors=specs)
        assert first.histograms[0].source.stride > 1
        assert [h.edges for h in first.histograms] == [h.edges for h in last.histograms]
        assert [h.counts for h in first.histograms] == [h.counts for h in last.histograms]


class TestScores:
    def test_logits_and_probabilities_give_the_same(self) -> None:
        logits = np.random.default_rng(0).normal(size=(300, 10)).astype(np.float32) * 4
        powers = np.exp(logits.astype(np.float64))
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        one, two = build_reference({}, {"y": logits}), build_reference({}, {"y": probabilities})
        assert [h.source.softmax for h in one.histograms] == [True, True]
        assert [h.source.softmax for h in two.histograms] == [False, False]
        assert [h.counts for h in one.histograms] == [h.counts for h in two.histograms]
        assert by_name(one, "y class") == tuple(np.bincount(logits.argmax(1), minlength=10))

    def test_huge_logits_do_not_overflow(self) -> None:
        reference = build_reference({}, {"y": np.array([[1e4, -1e4], [3e38, 0]], np.float32)})
        assert by_name(reference, "y confidence")[-1] == 2

    def test_classes_are_capped(self) -> None:
        scores = np.eye(1500, dtype=np.float32)[[0, 998, 999, 1400]]
        counts = by_name(build_reference({}, {"y": scores}), "y class")
        assert len(counts) == MAX_CLASSES
        assert (counts[0], counts[998], counts[999]) == (1, 1, 2)

    def test_confidence_table(self) -> None:
        probabilities = np.array([[0.96, 0.04]] * 99 + [[0.55, 0.45]])
        labels = np.array([0] * 90 + [1] * 10)
        reference = build_reference({}, {"y": probabilities}, labels)
        assert reference.confidence_table is not None
        edges = reference.histograms[1].edges
        at = int(np.searchsorted(edges, 0.96, side="right"))
        assert reference.confidence_table[at] == pytest.approx(90 / 99, abs=0.01)
        assert reference.confidence_table[-1] == pytest.approx(1.0, abs=0.001)  # no sample: what the model claims
        assert decode_reference(encode_reference(reference)) == reference

    def test_labels_of_another_length(self) -> None:
        with pytest.raises(DriftReferenceError, match="one class per sample"):
            build_reference({}, {"y": np.eye(3)}, np.zeros(4))

    def test_other_outputs_are_numbers(self) -> None:
        reference = build_reference({}, {"y": np.arange(10.0).reshape(10, 1), "z": np.ones((10, 4, 4))})
        assert [h.name for h in reference.histograms][:2] == ["y[0]", "z mean"]
        assert {h.role for h in reference.histograms} == {"output"}


@settings(deadline=None, max_examples=60)
@given(
    x=hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 5))),
    splits=st.lists(st.integers(0, 40), max_size=4),
)
def test_counting_in_parts_adds_up(x: np.ndarray, splits: list[int]) -> None:
    """Also one by one: single samples take another way through the code."""
    reference = build_reference({"x": x}, {"y": x})
    whole = counted(reference, {"x": x}, {"y": x})
    assert whole == [list(histogram.counts) for histogram in reference.histograms]
    assert all(sum(counts) == len(x) for counts in whole)
    cells = np.zeros(reference.cells, np.uint64)
    observer = Observer(reference)
    for part in [*np.split(x[:20], sorted(splits)), *x[20:, None]]:
        observer.observe({"x": part}, {"y": part}, cells)
    assert cells.tolist() == [count for counts in whole for count in counts]


@settings(deadline=None, max_examples=60)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=50))
def test_bins_are_those_of_the_format(values: list[float]) -> None:
    """Bin i holds edges[i-1] <= value < edges[i]; NaN is in the last."""
    reference = sample_reference()
    column = np.array(values, np.float32).reshape(-1, 1)
    edges = reference.histograms[0].edges
    expected = [0] * 4
    for value in values:
        expected[3 if np.isnan(value) else sum(edge <= value for edge in edges)] += 1
    assert counted(reference, {"x": column}, {})[0] == expected


@pytest.mark.parametrize(
    "strange",
    [
        np.zeros((0, 4), np.float32),
        np.zeros((2, 0), np.float32),
        np.float32(1),
        np.array(["text"]),
        np.zeros((1, 2, 3, 4), np.float32),
        np.zeros(4, np.float32),
        np.zeros((3, 4), np.complex64),
    ],
)
def test_a_tensor_of_another_form_is_left_out(strange: np.ndarray) -> None:
    assert counted(sample_reference(), {"x": strange}, {"scores": strange}) == [[0] * 4, [0] * 3, [0] * 3]


def test_a_missing_tensor_is_left_out() -> None:
    assert counted(sample_reference(), {}, {}) == [[0] * 4, [0] * 3, [0] * 3]


def test_large_batches_are_counted_in_pieces() -> None:
    x = np.random.default_rng(0).normal(size=(5000, 2))
    reference = build_reference({"x": x}, {})
    assert counted(reference, {"x": x}, {}) == [list(h.counts) for h in reference.histograms]


def test_nonfinite_values_are_counted() -> None:
    x = np.ones((8, 40), np.float32)
    reference = build_reference({"x": x}, {})
    broken = x.copy()
    broken[0, :20] = np.nan
    counts = counted(reference, {"x": broken}, {})
    names = [h.name for h in reference.histograms]
    assert counts[names.index("x nonfinite")] == [0, 7, 1]


def test_observing_one_sample_is_quick() -> None:
    """About 30 µs on the machine that this was written on; the limit leaves room for a slow or busy one."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 1, 8, 8)).astype(np.float32), rng.normal(size=(200, 10)).astype(np.float32)
    reference = build_reference({"x": x}, {"y": y})
    observer, cells = Observer(reference), np.zeros(reference.cells, np.uint64)
    one_x, one_y = {"x": x[:1].copy()}, {"y": y[:1].copy()}
    best_s = min(timeit.repeat(lambda: observer.observe(one_x, one_y, cells), number=200, repeat=20)) / 200
    assert best_s < 200e-6
