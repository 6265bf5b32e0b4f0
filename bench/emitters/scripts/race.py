"""Times .tflite files beside each other in one process: blocks of calls in turn, the order rotates.

Runs in the peers' environment, so that all files are run by the same LiteRT with its default delegate (XNNPACK).
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
Call = Callable[[], object]

BLOCK_NS = 3_000_000
WARM_UP_CALLS = 20


def call_of(path: str, threads: int, x: np.ndarray) -> Call:
    """A file, its input set once."""
    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    port = interpreter.get_input_details()[0]
    scale, zero = port["quantization"]
    value = x.reshape(port["shape"])
    if port["dtype"] != np.float32:
        limits = np.iinfo(port["dtype"])
        value = np.clip(np.rint(value / (scale or 1) + zero), limits.min, limits.max)
    interpreter.set_tensor(port["index"], value.astype(port["dtype"]))
    call: Call = interpreter.invoke
    return call


def block(call: Call, count: int) -> float:
    """Median of a block of calls, in nanoseconds."""
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)


def main() -> None:
    """Runs the job that is named on the command line, writes its result."""
    x = np.load(job["sample"])["x"]
    calls = {
        f"{contender['name']}, {contender['threads']}": call_of(contender["path"], contender["threads"], x)
        for contender in job["contenders"]
    }
    counts = {name: int(max(3, min(200, BLOCK_NS // block(call, WARM_UP_CALLS)))) for name, call in calls.items()}
    rounds: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(job["rounds"]):
        for name in order:
            rounds[name].append(int(block(calls[name], counts[name])))
        order = order[1:] + order[:1]
    Path(job["result"]).write_text(json.dumps({"rounds_ns": rounds}), encoding="utf-8")


main()
