"""Calibrates a float model on many samples, and tells how far memory grew above what it was before."""

import json
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np

from edgewright.compiler.data import Samples
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.pipeline import optimise
from edgewright.compiler.quantize.calibration.observe import collect
from edgewright.compiler.scratch import Scratch

SAMPLING_S = 0.002


def anonymous_bytes() -> int:
    """What this process has allocated: file pages that are mapped can be dropped, and do not count."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
data = np.load(job["data"], mmap_mode="r", allow_pickle=False)
done = threading.Event()
peak = before = anonymous_bytes()


def watch() -> None:
    global peak
    while not done.wait(SAMPLING_S):
        peak = max(peak, anonymous_bytes())


watcher = threading.Thread(target=watch)
watcher.start()
graph, _ = optimise(load_onnx(Path(job["model"])).graph, None)
with tempfile.TemporaryDirectory() as folder, Scratch(Path(folder)) as scratch:
    statistics = collect(graph, Samples({graph.graph.inputs[0].name or "": data}, None), scratch)
done.set()
watcher.join()
result = {
    "samples": statistics.samples,
    "growth_bytes": peak - before,
}
Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")
