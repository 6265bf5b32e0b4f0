"""Times engines beside each other in one process: blocks of calls in turn, the order rotates, one thread each.

Runs in the peers' environment. Peers are at their best settings: inputs lie in their own tensors, outputs are not
copied. Of ours, the call through ctypes is part of the time.
"""

import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
sys.path[:0] = job["paths"]
Call = Callable[[], object]

BLOCK_NS = 3_000_000
SGEMM_SIZE = 768


def onnxruntime_call(path: str, x: np.ndarray) -> tuple[Call, Call]:
    """ONNX Runtime, with inputs and outputs bound."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input(session.get_inputs()[0].name, x)
    binding.bind_output(session.get_outputs()[0].name)
    call = session.run_with_iobinding
    return lambda: call(binding), lambda: binding.copy_outputs_to_cpu()[0]


def openvino_call(path: str, x: np.ndarray) -> tuple[Call, Call]:
    """OpenVINO for latency; float32 stays float32."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(x.shape))
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return request.infer, lambda: request.get_output_tensor(0).data


def litert_call(path: str, x: np.ndarray) -> tuple[Call, Call]:
    """LiteRT with its default delegate (XNNPACK)."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    port = interpreter.get_input_details()[0]
    scale, zero = port["quantization"]
    value = x.reshape(port["shape"])
    if port["dtype"] != np.float32:
        limits = np.iinfo(port["dtype"])
        value = np.clip(np.round(value / (scale or 1) + zero), limits.min, limits.max)
    interpreter.set_tensor(port["index"], value.astype(port["dtype"]))
    output = interpreter.get_output_details()[0]
    return interpreter.invoke, lambda: interpreter.get_tensor(output["index"])


def native_call(path: str, x: np.ndarray) -> tuple[Call, Call]:
    """Our library through the binding that devices use."""
    from edgewright.bundle.native_library import NativeLibrary

    library = NativeLibrary(Path(path))
    entry = library.entries[0]
    arena = np.zeros(entry.arena_bytes + 64, np.uint8)
    start = -(-arena.ctypes.data // 64) * 64
    outputs = [np.zeros(port.shape, np.float32) for port in entry.outputs]
    inputs = (ctypes.c_void_p * 1)(x.ctypes.data)
    addresses = (ctypes.c_void_p * len(outputs))(*(output.ctypes.data for output in outputs))
    function, where = library.function(0), ctypes.c_void_p(start)

    def call() -> None:
        function(inputs, addresses, where)

    call.__dict__["keeps"] = (library, arena, outputs, x)  # the library knows only their addresses
    return call, lambda: outputs[0]


CALLS = {"onnxruntime": onnxruntime_call, "openvino": openvino_call, "litert": litert_call, "native": native_call}


def block(call: Call, count: int) -> float:
    """Median of a block of calls, in nanoseconds."""
    times = []
    for _ in range(count):
        start = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times)


def sgemm_gmacs() -> float:
    """What the BLAS under numpy reaches with one thread: billions of multiply-accumulates per second."""
    a = np.random.default_rng(0).normal(size=(SGEMM_SIZE, SGEMM_SIZE)).astype(np.float32)
    best_s = min(seconds(lambda: a @ a) for _ in range(30))
    return SGEMM_SIZE**3 / best_s / 1e9


def seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Runs the job that is named on the command line, writes its result."""
    x = np.ascontiguousarray(np.load(job["sample"])["x"], np.float32)
    calls: dict[str, Call] = {}
    outputs, failed = {}, {}
    for contender in job["contenders"]:
        name = contender["name"]
        try:
            calls[name], output = CALLS[contender["engine"]](contender["path"], x)
            calls[name]()
            outputs[name] = np.asarray(output(), np.float64).ravel().tolist()
        except Exception as error:  # noqa: BLE001 - a peer that cannot run a net is left out, and said so
            calls.pop(name, None)
            failed[name] = f"{type(error).__name__}: {error}"[:300]
    counts = {name: int(max(3, min(200, BLOCK_NS // block(call, 20)))) for name, call in calls.items()}
    rounds: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls)
    for _ in range(job["rounds"]):
        for name in order:
            rounds[name].append(int(block(calls[name], counts[name])))
        order = order[1:] + order[:1]
    result = {"rounds_ns": rounds, "outputs": outputs, "failed": failed, "sgemm_gmacs": sgemm_gmacs()}
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


main()
