"""How long does one request take, and how soon does a fresh server answer?

    python -m bench.server [--quick] [--check]

One client, one request after the other, over a plain socket, against real server processes with a small network
(490-256-256-12, float32), in ONNX Runtime and as native code. JSON and binary tensors; TCP on the loopback and the Unix
socket, interleaved so that a busy machine disturbs all alike. Start: from the start of the process to `Ready`, and to
the first answered inference. `--check` exits 1 when a fresh server takes too long to be ready: 1.0 s with ONNX Runtime,
0.5 s with native code.
"""

from __future__ import annotations

import argparse
import itertools
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench import record
from edgewright.bundle.archive import read_manifest
from edgewright.compiler.frontends.onnx import load_onnx
from edgewright.compiler.lower.native.library import compile_library, nets_of
from edgewright.compiler.lower.native.machine import machine_of
from edgewright.runtime.control import Done
from edgewright.runtime.engines.catalog import engine_for
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.runtime.server.child import ServerChild, listen_tcp, listen_unix
from edgewright.targets.host import detect_host
from tests.runtime.native_bundle import write_native_bundle
from tests.runtime.small_bundle import write_bundle

LAYERS = (490, 256, 256, 12)
READY_LIMITS_S = {"onnxruntime": 1.0, "native": 0.5}
DIGEST = "sha256:" + "0" * 64
"""Of the archive; the server only hands it on."""


def network() -> onnx.ModelProto:
    """Return the network with random weights."""
    random = np.random.default_rng(0)
    nodes, weights, value = [], [], "features"
    for index, (fan_in, fan_out) in enumerate(itertools.pairwise(LAYERS)):
        last = index == len(LAYERS) - 2
        w = (random.normal(size=(fan_in, fan_out)) / fan_in**0.5).astype(np.float32)
        weights += [
            numpy_helper.from_array(w, f"w{index}"),
            numpy_helper.from_array(np.zeros(fan_out, "f4"), f"b{index}"),
        ]
        nodes.append(helper.make_node("Gemm", [value, f"w{index}", f"b{index}"], [f"g{index}"]))
        value = "scores" if last else f"a{index}"
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"g{index}"], [value]))
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", LAYERS[0]])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", LAYERS[-1]])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def requests() -> dict[str, bytes]:
    """Return the complete HTTP request of each form."""
    sample = np.random.default_rng(1).uniform(size=(1, LAYERS[0])).astype(np.float32)
    tensor: dict[str, Any] = {"name": "features", "shape": [1, LAYERS[0]], "datatype": "FP32"}
    as_json = json.dumps({"inputs": [{**tensor, "data": [float(f"{x:.6f}") for x in sample[0]]}]}).encode()
    described = {**tensor, "parameters": {"binary_data_size": sample.nbytes}}
    head = json.dumps({"inputs": [described], "parameters": {"binary_data_output": True}}).encode()
    return {
        "json": _post(as_json, ""),
        "binary": _post(head + sample.tobytes(), _length(len(head))),
        "raw": _post(sample.tobytes(), _length(0)),
    }


def _length(size: int) -> str:
    return f"Inference-Header-Content-Length: {size}\r\n"


def _post(body: bytes, header: str) -> bytes:
    return (
        f"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: bench\r\n{header}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def ask(connection: socket.socket, request: bytes) -> None:
    """Send a request and read its whole response."""
    connection.sendall(request)
    answer = connection.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(f"the server answered {answer[:200]!r}")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    received = len(body)
    while received < length:
        received += len(connection.recv(65536))


def latencies(connections: dict[str, socket.socket], rounds: int, each: int) -> dict[str, dict[str, float]]:
    """Return p50, p99 in microseconds by form and transport, interleaved in rounds."""
    times: dict[str, list[float]] = {}
    forms = requests()
    for turn in range(rounds + 1):
        for transport, connection in connections.items():
            for form, request in forms.items():
                took = [_timed(lambda c=connection, r=request: ask(c, r)) for _ in range(each)]  # type: ignore[misc]
                if turn:  # the first round warms up
                    times.setdefault(f"{form}_{transport}", []).extend(took)
    return {name: _summary(values) for name, values in sorted(times.items())}


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e6


def _summary(times_us: list[float]) -> dict[str, float]:
    ordered = sorted(times_us)
    return {
        "p50_us": round(statistics.median(ordered), 1),
        "p99_us": round(ordered[int(len(ordered) * 0.99)], 1),
        "requests": len(ordered),
    }


def pss_mb(pid: int) -> float:
    """Return the proportional set size of a process in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return 0.0


def bundles(base: Path) -> dict[str, Path]:
    """Return the network as a bundle directory for each engine."""
    samples = np.random.default_rng(2).uniform(size=(64, LAYERS[0])).astype(np.float32)
    interpreted = write_bundle(base / "onnxruntime", network(), {"features": samples}, name="mlp")
    machine = machine_of(detect_host())
    graph = load_onnx(interpreted.directory / "model/model.onnx").graph
    code = compile_library("mlp", nets_of(graph, machine), machine, machine, {}, base / "code")
    write_native_bundle(
        base / "native",
        code.path,
        interpreted.manifest.inputs,
        interpreted.manifest.outputs,
        ({"features": samples}, interpreted.run({"features": samples})),
        name="mlp",
    )
    return {"onnxruntime": interpreted.directory, "native": base / "native"}


def starts(bundle: Path, base: Path, times: int) -> dict[str, float]:
    """Return the median time from the start of the process to Ready and to the first answer."""
    ready, answered = [], []
    for _ in range(times):
        with listen_tcp() as tcp:
            begun = time.perf_counter()
            with ServerChild([tcp], base) as child:
                ready.append(time.perf_counter() - begun)
                serve(child, bundle)
                with socket.create_connection(tcp.getsockname()) as connection:
                    ask(connection, requests()["raw"])
                answered.append(time.perf_counter() - begun)
    return {
        "ready_s": round(statistics.median(ready), 3),
        "ready_worst_s": round(max(ready), 3),
        "first_answer_s": round(statistics.median(answered), 3),
    }


def serve(child: ServerChild, bundle: Path) -> None:
    reply = child.load(bundle, "mlp", "1", DIGEST)
    if not isinstance(reply, Done):
        raise TypeError(f"the server did not load the bundle: {reply}")


def engine_us(bundle: Path) -> float:
    """Return the median time of the model alone in this process: the part that no server can save."""
    manifest = read_manifest(bundle)
    instance = engine_for(manifest).load(bundle, manifest, LoadOptions())
    sample = {"features": np.zeros((1, LAYERS[0]), np.float32)}
    return round(statistics.median(_timed(lambda: instance.run(sample)) for _ in range(2000)), 1)


@contextmanager
def served(bundle: Path, base: Path) -> Iterator[tuple[ServerChild, dict[str, socket.socket]]]:
    """A server of its own with the bundle, and a connection to it over each transport."""
    base.mkdir()
    with listen_tcp() as tcp, listen_unix(base / "s") as unix, ServerChild([tcp, unix], base) as child:
        serve(child, bundle)
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(base / "s"))
        with socket.create_connection(tcp.getsockname()) as connection, client:
            yield child, {"tcp": connection, "unix": client}


def measure(*, quick: bool) -> dict[str, Any]:
    """Return the figures by engine."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
        base = Path(scratch)
        found = bundles(base)
        figures: dict[str, dict[str, Any]] = {
            engine: {"start": starts(bundle, base, 3 if quick else 9), "engine_alone_us": engine_us(bundle)}
            for engine, bundle in found.items()
        }
        running = {
            engine: servers.enter_context(served(bundle, base / f"{engine}-server")) for engine, bundle in found.items()
        }
        connections = {
            f"{transport}_{engine}": connection
            for engine, (_, transports) in running.items()
            for transport, connection in transports.items()
        }
        timed = latencies(connections, 3 if quick else 10, 200 if quick else 500)
        for engine, (child, _) in running.items():
            ending = f"_{engine}"
            figures[engine]["latency"] = {
                name.removesuffix(ending): value for name, value in timed.items() if name.endswith(ending)
            }
            figures[engine]["pss_mb"] = pss_mb(child.process.pid)
    return figures


def show(figures: dict[str, Any]) -> None:
    for engine, found in figures.items():
        print(f"{engine}: " + "   ".join(f"{name} {value}" for name, value in found["start"].items()))
        print(f"  engine alone {found['engine_alone_us']} us   server PSS {found['pss_mb']} MB")
    print(f"{'request':<14}" + "".join(f"{engine + ' p50, p99 us':>26}" for engine in figures))
    for name in figures["native"]["latency"]:
        pairs = (found["latency"][name] for found in figures.values())
        print(f"{name:<14}" + "".join(f"{pair['p50_us']:>16}{pair['p99_us']:>10}" for pair in pairs))


def main() -> None:
    """Measure, print, write results/server.json."""
    parser = argparse.ArgumentParser(description="latency of one request, and start of the server")
    parser.add_argument("--quick", action="store_true", help="fewer requests, under a minute")
    parser.add_argument("--check", action="store_true", help="exit 1 when the server is not ready in time")
    arguments = parser.parse_args()
    figures = measure(quick=arguments.quick)
    show(figures)
    print(record.write("server", figures, packages=("onnxruntime", "uvloop", "httptools", "msgspec", "numpy")))
    for engine, limit_s in READY_LIMITS_S.items():
        if arguments.check and figures[engine]["start"]["ready_s"] >= limit_s:
            sys.exit(f"{engine}: ready after {figures[engine]['start']['ready_s']} s; the limit is {limit_s} s")


if __name__ == "__main__":
    main()
