"""How many requests a second: every contender on the same core, the load on the other, interleaved."""

from __future__ import annotations

import os
import signal
import statistics
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from . import servers
from .load import Load
from .nets import Net
from .requests import json_request, write_requests
from .servers import Server

CONCURRENCY = (8, 32)
SERVER_CORE = 0


def contenders(net: Net, base: Path) -> dict[str, Callable[[], AbstractContextManager[Server]]]:
    """How each one is started, by name."""
    core = SERVER_CORE
    return {
        "edgewright, ONNX Runtime": lambda: servers.ours(net, "onnxruntime", base / "ours-ort", core, grpc=True),
        "edgewright, native": lambda: servers.ours(net, "native", base / "ours-native", core, grpc=True),
        "edgewright, int8": lambda: servers.ours(net, "int8", base / "ours-int8", core, grpc=True),
        "MLServer": lambda: servers.mlserver(net, base, core),
        "MLServer, batching": lambda: servers.mlserver(net, base, core, batch=32),
        "LitServe": lambda: servers.litserve(net, base, core),
        "BentoML": lambda: servers.bentoml(net, base, core),
    }


def measure(net: Net, base: Path, load: Load, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Requests/s, p50 and p99 by contender, form and concurrency: medians over the rounds."""
    forms = write_requests(net, base)
    for name, path in (("litserve", "/predict"), ("bentoml", "/infer")):
        forms[name] = base / f"{net.name}.{name}"
        forms[name].write_bytes(json_request(net, path))
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with ExitStack() as running:
        started = {name: running.enter_context(start()) for name, start in contenders(net, base).items()}
        for server in started.values():
            _pause(server)
        for turn in range(rounds):
            for name, server in started.items():
                _resume(server)
                for label, request, protocol, port in _cases(name, server, forms):
                    for connections in CONCURRENCY:
                        if turn == 0:  # caches, lazy imports, the first batch of each size
                            load.run(port, request, connections=connections, seconds=0.5, protocol=protocol)
                        counted = _counted(server, load, port, request, connections, seconds, protocol)
                        found.setdefault(name, {}).setdefault(f"{label} x{connections}", []).append(counted)
                _pause(server)
        for server in started.values():
            _resume(server)
    return {name: {case: _median(each) for case, each in cases.items()} for name, cases in found.items()}


def _cases(name: str, server: Server, forms: dict[str, Path]) -> list[tuple[str, Path, str, int]]:
    if name.startswith("edgewright"):
        http = [(form, forms[form], "http", server.port) for form in ("json", "binary")]
        return [*http, ("grpc", forms["grpc"], "grpc", server.grpc_port)]
    if name.startswith("MLServer"):
        return [("json", forms["json"], "http", server.port), ("grpc", forms["grpc"], "grpc", server.grpc_port)]
    return [("json", forms[name.lower()], "http", server.port)]


def _counted(
    server: Server, load: Load, port: int, request: Path, connections: int, seconds: float, protocol: str
) -> dict[str, Any]:
    before_s = server.cpu_s()
    counted = load.run(port, request, connections=connections, seconds=seconds, protocol=protocol)
    cpu_s = server.cpu_s() - before_s
    sent = counted["per_second"] * seconds
    return {
        "per_second": counted["per_second"],
        "p50_us": counted["ok_from_sent"].get("p50_us", 0.0),
        "p99_us": counted["ok_from_sent"].get("p99_us", 0.0),
        "server_cpu_us": cpu_s / sent * 1e6 if sent else 0.0,
        "client_cpu": counted["client_cpu"],
        "failed": counted["errors"] + counted["others"] + counted["shed_from_sent"]["count"],
    }


def _median(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    each = {key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]}
    return {**each, "failed": sum(one["failed"] for one in rounds), "rounds": [one["per_second"] for one in rounds]}


def _pause(server: Server) -> None:
    """A contender that waits for its turn must not take time from the one that is measured."""
    for pid in server.processes():
        os.kill(pid, signal.SIGSTOP)


def _resume(server: Server) -> None:
    for pid in server.processes():
        os.kill(pid, signal.SIGCONT)
