"""Is a .tflite file the same after it was read as a graph and written again?"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.emitters.litert import Array, Litert
from bench.quantizers.nets import KWS_SCALE, KWS_ZERO_POINT, SHARED
from edgewright.compiler.tflite.emitter.emit import emit
from edgewright.compiler.tflite.emitter.ports import Ports
from edgewright.compiler.tflite.file.read import read
from edgewright.compiler.tflite.file.write import write
from edgewright.compiler.tflite.reader.read_graph import graph_of

ST = "STMicroelectronics"
HALF_A_DIGIT = 0.00051
"""Boards print three decimals; probabilities lie 1/256 apart."""
AS_STORED = Ports(integer=True, channels_last=True)


def written_again(model: bytes, name: str) -> bytes:
    """Through the graph and back."""
    return write(emit(graph_of(read(model, name), name), AS_STORED).model)


def lossless(original: bytes, name: str, x: NDArray[np.float32]) -> dict[str, Any]:
    """How many samples have the same bits, with optimised and with reference kernels."""
    again = written_again(original, name)
    figures: dict[str, Any] = {"samples": len(x), "bytes_before": len(original), "bytes_after": len(again)}
    for kernels, reference in (("optimised", False), ("reference", True)):
        before, after = (Litert(each, reference=reference) for each in (original, again))
        inputs = before.rounded(x)
        figures[kernels] = equal_samples(before.run(inputs), after.run(inputs))
    return figures


def equal_samples(before: list[Array], after: list[Array]) -> int:
    """Samples whose outputs are all the same, types included."""
    if [each.dtype for each in before] != [each.dtype for each in after]:
        return 0
    count = len(before[0])
    same = [one.reshape(count, -1) == other.reshape(count, -1) for one, other in zip(before, after, strict=True)]
    return int(np.concatenate(same, 1).all(1).sum())


def boards(original: bytes, samples: int) -> dict[str, Any]:
    """Of each ST board, samples where the reference and where ours say what the board printed."""
    with np.load(SHARED / "mlperf_tiny/kws01.npz", allow_pickle=False) as file:
        x = ((file["x"].astype(np.float32) - KWS_ZERO_POINT) * np.float32(KWS_SCALE))[:samples]
    found = {}
    for who, model in (("reference", original), ("ours", written_again(original, "kws"))):
        litert = Litert(model)
        found[who] = litert.real(litert.run(litert.rounded(x)))[0]
    return {
        board: {who: as_printed(scores, printed[:samples]) for who, scores in found.items()}
        for board, printed in recorded().items()
    }


def as_printed(scores: Array, printed: Array) -> int:
    """Samples for which a board would have printed these scores."""
    return int((np.abs(scores - printed) <= HALF_A_DIGIT).all(1).sum())


def recorded() -> Mapping[str, NDArray[np.float64]]:
    """What each ST board printed for every input, in the order of the inputs."""
    rows: dict[str, dict[str, list[float]]] = defaultdict(dict)
    with gzip.open(SHARED / "mlperf_tiny/device_outputs_kws.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["org"] == ST:
                scores = [float(value) for key, value in row.items() if key.startswith("out")]
                rows[f"{row['round']} {row['system']}"][row["input_file"]] = scores
    return {board: np.array([by_file[name] for name in sorted(by_file)]) for board, by_file in rows.items()}
