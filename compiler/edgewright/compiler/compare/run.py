"""Runs two models beside each other and sums up how far their layers are apart, in bounded memory.

All wanted tensors become outputs of the graph; a call asks for as many of them, of as many samples, as fit. A third
graph, cut at every pair, gives each layer of the second model the first one's values: what a layer adds by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from numpy.typing import NDArray

from ..data import Arrays
from ..faults import DataError, first_line
from ..graph import Graph, clone, fixed_batch
from ..lower.model_file import settled, write_model
from ..lower.onnxruntime import Arithmetic, open_session, run
from ..metrics import snr_db
from ..quantize.corrections.record import Factors, moved_factors
from ..report.progress import Advance, Stages
from ..scratch import Scratch
from .match import Matching, Pair, match, rounded_forms
from .report import Comparison, LayerDifference, OutputDifference
from .source import Side
from .sums import Sums

MEMORY_BYTES = 192 << 20
MAX_CHUNK_SAMPLES = 64
PAIRS_MEASURED_AT_A_TIME = 16
"""Before sizes are known."""
GIVEN = "edgewright_given_{}"


@dataclass(frozen=True)
class _Plan:
    """How much is done at a time."""

    samples: int
    groups: tuple[tuple[Pair, ...], ...]


def compare_models(
    left: Side, right: Side, inputs: Arrays, stages: Stages, scratch: Scratch, memory_bytes: int = MEMORY_BYTES
) -> Comparison:
    """Compares all layers that correspond on these samples.

    Args:
        left: the model that counts as right.
        right: the model whose error is wanted.
        inputs: one array per input, samples first, in the models' types.
        stages: shows progress.
        scratch: room for models that are too large for memory.
        memory_bytes: of tensors that may be held at one time, of both models together.

    Raises:
        DataError: nothing corresponds, or the models cannot run on the data.
    """
    left, right = (replace(side, graph=settled(side.graph, scratch)) for side in (left, right))
    matching = match(left.graph, right.graph)
    if not matching.pairs:
        raise DataError(
            f"{left.label} and {right.label}: no tensor of the one corresponds to one of the other, neither by name "
            "nor by operator, shape and order. Were they made from the same model?"
        )
    count = len(next(iter(inputs.values())))
    with stages.stage("comparing layers", count) as advance:
        differences, not_alike = _layers(left, right, inputs, matching, advance, scratch, memory_bytes)
    with stages.stage("comparing outputs"):
        outputs = _outputs(left, right, inputs, scratch)
    gone = {pair.name for pair in not_alike}
    return Comparison(
        left=left.label,
        right=right.label,
        left_digest=left.digest,
        right_digest=right.digest,
        samples=count,
        layers=differences,
        outputs=outputs,
        left_only=(*matching.left_only, *sorted(gone)),
        right_only=(*matching.right_only, *sorted(pair.right for pair in not_alike)),
    )


def _layers(
    left: Side, right: Side, inputs: Arrays, matching: Matching, advance: Advance, scratch: Scratch, memory_bytes: int
) -> tuple[tuple[LayerDifference, ...], tuple[Pair, ...]]:
    factors = _factors(right.graph)
    one = _Session(_showing(left.graph, [pair.left for pair in matching.pairs]), scratch, _factors(left.graph))
    other = _Session(_showing(right.graph, [pair.right for pair in matching.pairs]), scratch, factors)
    batch = _batch(left.graph, right.graph)
    pairs, not_alike, sizes = _measured(one, other, matching.pairs, _slice(inputs, 0, batch or 1, batch))
    plan = _divide(pairs, sizes, batch, memory_bytes)
    local = _Session(_cut(right.graph, pairs), scratch, factors) if len(plan.groups) == 1 else None
    sums = {pair.name: Sums() for pair in pairs}
    local_sums = {pair.name: Sums() for pair in pairs}
    for chunk, kept in _chunks(inputs, plan.samples, batch):
        for group in plan.groups:
            signal = one.fetch([pair.left for pair in group], chunk)
            found = other.fetch([pair.right for pair in group], chunk)
            for pair in group:
                sums[pair.name].add(signal[pair.left][:kept], found[pair.right][:kept])
            if local is not None:
                given = {
                    GIVEN.format(index): factors[pair.right].moved(signal[pair.left])
                    if pair.right in factors
                    else signal[pair.left]
                    for index, pair in enumerate(pairs)
                }
                alone = local.fetch([pair.right for pair in pairs], {**chunk, **given})
                for pair in pairs:
                    local_sums[pair.name].add(signal[pair.left][:kept], alone[pair.right][:kept])
        advance(kept)
    return tuple(_difference(pair, sums[pair.name], local_sums[pair.name]) for pair in pairs), not_alike


def _difference(pair: Pair, sums: Sums, local: Sums) -> LayerDifference:
    return LayerDifference(
        name=pair.name,
        operator=pair.operator,
        counterpart=pair.right,
        matched_by=pair.how,
        snr_db=round(sums.snr_db, 3),
        local_snr_db=round(local.snr_db, 3) if local.elements else None,
        cosine=round(sums.cosine, 9),
        largest_difference=sums.largest_difference,
        elements=sums.elements,
        not_finite=sums.not_finite,
    )


class _Session:
    """A graph, computed exactly as written; what its plan divided on the way is multiplied back in what it gives."""

    def __init__(self, graph: Graph, scratch: Scratch, factors: Mapping[str, Factors]) -> None:
        self._factors = factors
        self._session: onnxruntime.InferenceSession = open_session(write_model(graph, scratch), Arithmetic.EXACT)
        self._inputs = {value.name for value in self._session.get_inputs()}

    def fetch(self, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Some of the outputs."""
        wanted = list(dict.fromkeys(names))
        feeds = {name: array for name, array in inputs.items() if name in self._inputs}
        try:
            values = self._session.run(wanted, feeds)
        except Exception as error:  # the binding raises a dozen classes without a common base but Exception
            raise DataError(f"the model cannot run on this data: {first_line(error)}") from error
        return {name: self._restored(name, np.asarray(value)) for name, value in zip(wanted, values, strict=True)}

    def _restored(self, name: str, array: NDArray[Any]) -> NDArray[Any]:
        factors = self._factors.get(name)
        return array if factors is None else factors.restored(array)


def _factors(graph: Graph) -> dict[str, Factors]:
    """By what a plan divided each tensor of a model, its rounded form included."""
    found = moved_factors(graph)
    forms = {form: found[name] for name, form in rounded_forms(graph).items() if name in found}
    return {**found, **forms}


def _showing(graph: Graph, names: Sequence[str]) -> Graph:
    """The graph with these tensors among its outputs."""
    result = clone(graph)
    have = {value.name for value in result.graph.outputs}
    values = {value.name: value for node in result.graph for value in node.outputs}
    result.graph.outputs.extend(values[name] for name in dict.fromkeys(names) if name not in have)
    return result


def _cut(graph: Graph, pairs: Sequence[Pair]) -> Graph:
    """The graph in which readers of each pair's tensor read a new input instead."""
    result = _showing(graph, [pair.right for pair in pairs])
    values = {value.name: value for node in result.graph for value in node.outputs}
    for index, pair in enumerate(pairs):
        value = values[pair.right]
        given = ir.Value(name=GIVEN.format(index), type=value.type or ir.TensorType(ir.DataType.FLOAT))
        given.shape = value.shape
        for use in tuple(value.uses()):
            use.node.replace_input_with(use.idx, given)
        result.graph.inputs.append(given)
    return result


def _batch(left: Graph, right: Graph) -> int | None:
    sizes = {batch for batch in (fixed_batch(left), fixed_batch(right)) if batch is not None}
    return min(sizes) if sizes else None


def _measured(
    one: _Session, other: _Session, pairs: Sequence[Pair], sample: Arrays
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], dict[str, int]]:
    """Pairs that really are float tensors of one shape, those that are not, and bytes per call of the former."""
    alike, not_alike, sizes = [], [], {}
    for start in range(0, len(pairs), PAIRS_MEASURED_AT_A_TIME):
        group = pairs[start : start + PAIRS_MEASURED_AT_A_TIME]
        signals = one.fetch([pair.left for pair in group], sample)
        founds = other.fetch([pair.right for pair in group], sample)
        for pair in group:
            signal, found = signals[pair.left], founds[pair.right]
            if signal.shape == found.shape and signal.dtype.kind == found.dtype.kind == "f" and signal.ndim:
                alike.append(pair)
                sizes[pair.name] = signal.nbytes + found.nbytes
            else:
                not_alike.append(pair)
    return tuple(alike), tuple(not_alike), sizes


def _divide(pairs: Sequence[Pair], sizes: Mapping[str, int], batch: int | None, memory_bytes: int) -> _Plan:
    """As many samples as fit at a time; where one call is too much already, as many pairs."""
    total_bytes = max(1, sum(sizes.values()))
    if total_bytes <= memory_bytes:
        samples = batch or min(MAX_CHUNK_SAMPLES, memory_bytes // total_bytes)
        return _Plan(samples, (tuple(pairs),))
    groups: list[list[Pair]] = [[]]
    room = memory_bytes
    for pair in pairs:
        if groups[-1] and sizes[pair.name] > room:
            groups.append([])
            room = memory_bytes
        groups[-1].append(pair)
        room -= sizes[pair.name]
    return _Plan(batch or 1, tuple(tuple(group) for group in groups))


def _chunks(inputs: Arrays, samples: int, batch: int | None) -> Iterator[tuple[Arrays, int]]:
    """Samples in pieces, the last one filled up where the batch is fixed, and how many of each are real."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count, samples):
        yield _slice(inputs, start, samples, batch), min(samples, count - start)


def _slice(inputs: Arrays, start: int, samples: int, batch: int | None) -> Arrays:
    piece = {name: array[start : start + samples] for name, array in inputs.items()}
    if batch is None:
        return piece
    return {
        name: np.concatenate([array, np.repeat(array[-1:], batch - len(array), axis=0)])
        for name, array in piece.items()
    }


def _outputs(left: Side, right: Side, inputs: Arrays, scratch: Scratch) -> tuple[OutputDifference, ...]:
    """The models' outputs, pair by pair in their order: exactly, and as the engine computes them here."""
    truth = run(open_session(write_model(left.graph, scratch), Arithmetic.EXACT), inputs)
    model = write_model(right.graph, scratch)
    exact = run(open_session(model, Arithmetic.EXACT), inputs)
    real = run(open_session(model, Arithmetic.ENGINE), inputs)
    names = [(name, name) for name in truth if name in exact] or list(zip(truth, exact, strict=False))
    return tuple(
        OutputDifference(
            name=one,
            counterpart=other,
            exact_snr_db=round(snr_db(exact[other], truth[one]), 3),
            engine_snr_db=round(snr_db(real[other], truth[one]), 3),
        )
        for one, other in names
        if truth[one].shape == exact[other].shape
    )
