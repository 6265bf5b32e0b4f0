"""One model under its name: takes requests, has them executed, counts them, answers them."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgewright.bundle.manifest import TensorSpec
from edgewright.bundle.observe import Observer

from .inference import Inference, Signature, read_request, write_response
from .limits import Limits
from .loading import LoadedModel
from .messages import HttpError, Request, Respond, Response, error_response
from .recorder import Counted, CounterStore, Recorder
from .scheduler import DirectScheduler, Execution, Tensors
from .statistics import ModelStatistics

_log = logging.getLogger(__name__)

_PLATFORMS = {"onnxruntime": "onnx_onnxv1"}

OBSERVED_ELEMENTS = 1 << 18
"""Elements of one tensor that the drift observer looks at in one request: of a larger batch it sees the first samples.

Observing is part of the request (a request is counted before its answer is written), so its cost must have a bound. The
windows' `rows` count every sample, so the fleet can see that a histogram is a part of them.
"""


class ServedModel:
    """A loaded model in service. All methods are called on the event loop, except `_execute`."""

    def __init__(self, loaded: LoadedModel, *, bundle: str, store: CounterStore, limits: Limits) -> None:
        manifest = loaded.manifest
        self.name, self.version, self.bundle = manifest.model, manifest.version, bundle
        self.manifest = manifest
        self.signature = Signature(
            manifest.model,
            manifest.version,
            {spec.name: spec for spec in manifest.inputs},
            {spec.name: spec for spec in manifest.outputs},
        )
        self.metadata = msgspec.json.encode(self._metadata())
        self.statistics = ModelStatistics()
        sizes = tuple(len(histogram.counts) for histogram in loaded.reference.histograms)
        self.recorder = Recorder(
            store,
            Counted(
                model=self.name,
                version=self.version,
                bundle=bundle,
                reference=loaded.reference_digest,
                histogram_sizes=sizes,
            ),
        )
        self.scheduler = DirectScheduler(self._execute, row_s=loaded.p50_s)
        self.p50_s = loaded.p50_s
        self.in_flight = 0
        self._instance = loaded.instance
        self._reference = loaded.reference
        self._observers = threading.local()  # an observer works for one thread; two may run this model
        self._limits = limits
        self._idle = asyncio.Event()
        self._idle.set()

    def infer(self, request: Request, respond: Respond) -> None:
        """Answer an inference request through `respond`.

        Raises:
            HttpError: the request does not fit the model, or cannot be taken now; nothing was executed or counted.
        """
        try:
            inference = read_request(request, self.signature, self._limits)
        except HttpError:
            self.statistics.refused += 1
            raise
        input_ns = time.perf_counter_ns() - request.received_ns

        def deliver(execution: Execution) -> None:
            self._leave()
            respond(self._finish(request, inference, execution, input_ns))

        self._enter()
        try:
            self.scheduler.submit(inference.inputs, inference.rows, deliver)
        except HttpError:
            self._leave()
            raise

    async def retire(self) -> None:
        """Answer what is under way, then give everything back. No request follows."""
        await self._idle.wait()
        self.recorder.close()
        self.scheduler.close()
        self._instance.close()

    def _enter(self) -> None:
        self.in_flight += 1
        self._idle.clear()

    def _leave(self) -> None:
        self.in_flight -= 1
        if self.in_flight == 0:
            self._idle.set()

    def _execute(self, inputs: Tensors) -> Execution:
        try:
            outputs = self._instance.run(inputs)
        except Exception as error:  # noqa: BLE001 - an engine may raise anything; it is this request that failed
            return Execution(None, error, None)
        return Execution(outputs, None, self._observe(inputs, outputs))

    def _observe(self, inputs: Tensors, outputs: Tensors) -> NDArray[np.uint64] | None:
        try:
            observer: Observer | None = getattr(self._observers, "one", None)
            if observer is None:
                observer = self._observers.one = Observer(self._reference)
            cells = np.zeros(observer.cells, np.uint64)
            observer.observe(_first(inputs, self.signature.inputs), _first(outputs, self.signature.outputs), cells)
        except Exception:  # noqa: BLE001 - drift is a by-product: a metric counts this, no request fails of it
            return None
        return cells

    def _finish(self, request: Request, inference: Inference, execution: Execution, input_ns: int) -> Response:
        begun_ns = time.perf_counter_ns()
        response = self._response(inference, execution)
        now_ns = time.perf_counter_ns()
        latency_ns = now_ns - request.received_ns
        failed = response.status != 200
        totals = self.statistics
        (totals.fail if failed else totals.success).add(latency_ns)
        totals.queue.add(execution.queue_ns)
        totals.compute_input.add(input_ns)
        totals.compute_infer.add(execution.compute_ns)
        totals.compute_output.add(now_ns - begun_ns)
        totals.rows += inference.rows
        totals.observe_latency(latency_ns // 1000)
        totals.observer_errors += execution.error is None and execution.observed is None
        now_s = time.time()
        totals.last_inference_ms = int(now_s * 1000)
        self.recorder.record(
            now_s, latency_us=latency_ns // 1000, rows=inference.rows, failed=failed, observed=execution.observed
        )
        return response

    def _response(self, inference: Inference, execution: Execution) -> Response:
        if execution.outputs is None:
            _log.error("%s %s failed to run: %s", self.name, self.version, execution.error)
            return error_response(HttpError(500, "the model failed to run; the server's log has the details"))
        try:
            return write_response(inference, execution.outputs, self.signature)
        except Exception:  # noqa: BLE001 - outputs come from an engine; only this request fails
            _log.exception("%s %s gave outputs that cannot be written", self.name, self.version)
            return error_response(
                HttpError(500, "the model's outputs cannot be written; the server's log has the details")
            )

    def _metadata(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "versions": [self.version],
            "platform": _PLATFORMS.get(self.manifest.engine.name, f"{self.manifest.engine.name}_model"),
            "inputs": [_described(spec) for spec in self.manifest.inputs],
            "outputs": [_described(spec) for spec in self.manifest.outputs],
        }


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def _first(tensors: Tensors, specs: Any) -> Tensors:
    """Return the tensors, cut to the samples that the observer looks at."""
    largest = max((array.size for name, array in tensors.items() if _batched(specs.get(name))), default=0)
    if largest <= OBSERVED_ELEMENTS:
        return tensors
    return {
        name: array[: max(1, len(array) * OBSERVED_ELEMENTS // largest)] if _batched(specs.get(name)) else array
        for name, array in tensors.items()
    }


def _batched(spec: TensorSpec | None) -> bool:
    return spec is not None and len(spec.shape) > 0 and spec.shape[0] == -1
