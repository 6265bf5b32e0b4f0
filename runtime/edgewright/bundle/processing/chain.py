"""Steps in a row, bound to the tensors that come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .. import steps as step_types
from ..steps import MAX_STEPS, Nms, Step
from ..tensor_spec import TensorSpec
from . import crop, log_mel, nms, numbers, resize, scores, shapes
from .bound import Array, Bound, ProcessingError, sample_bytes

Tensors = Mapping[str, Array]

MAX_BATCH_BYTES = 1 << 30
"""Of one tensor, for a whole batch: a request of tiny samples may not become a huge one."""

BINDERS: dict[type, Callable[..., Bound]] = {
    step_types.Resize: resize.bind,
    step_types.Crop: crop.bind,
    step_types.Cast: numbers.bind_cast,
    step_types.Normalise: numbers.bind_normalise,
    step_types.Transpose: shapes.bind_transpose,
    step_types.Reshape: shapes.bind_reshape,
    step_types.LogMel: log_mel.bind,
    step_types.Dequantize: numbers.bind_dequantize,
    step_types.Rename: shapes.bind_rename,
    step_types.Softmax: scores.bind_softmax,
    step_types.Sigmoid: scores.bind_sigmoid,
    step_types.Argmax: scores.bind_argmax,
    step_types.TopK: scores.bind_top_k,
    step_types.Nms: nms.bind,
}


class Chain:
    """Steps that fit the tensors given and each other."""

    def __init__(self, steps: Sequence[Step], given: Sequence[TensorSpec], where: str) -> None:
        """Binds all steps.

        Args:
            steps: in order.
            given: the tensors before the first.
            where: what the steps are called in messages, such as `preprocess`.

        Raises:
            ProcessingError: a step does not fit; the message says which and why.
        """
        if len(steps) > MAX_STEPS:
            raise ProcessingError(f"{where}: {len(steps)} steps; at most {MAX_STEPS}")
        self._where = where
        self._bound: list[Bound] = []
        tensors = {spec.name: spec for spec in given}
        self.touched: set[str] = set()
        """Names that some step takes or gives."""
        self.sample_bytes = 0
        """Of the largest tensor that a step takes or gives, in one sample."""
        for place, step in enumerate(steps, start=1):
            try:
                tensors = self._bind(step, tensors)
            except ProcessingError as error:
                raise ProcessingError(f"{where}, step {place} ({name_of(step)}): {error}") from error
        self.result = tuple(tensors.values())
        """The tensors after the last."""

    @property
    def scratch_bytes(self) -> int:
        """Predicted memory while one sample is worked on: the largest of all steps, with its tensors."""
        return max((bound.scratch_bytes for bound in self._bound), default=0) + 2 * self.sample_bytes

    @property
    def operations(self) -> int:
        """Arithmetic for one sample, about."""
        return sum(bound.operations for bound in self._bound)

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """The tensors after all steps. Those given are not written to.

        Raises:
            ProcessingError: a batch that would take more than `MAX_BATCH_BYTES`.
        """
        found = dict(tensors)
        self._check_batch(found)
        for bound in self._bound:
            arrays = bound.run(*(found.pop(name) for name in bound.takes))
            found.update(zip((spec.name for spec in bound.gives), arrays, strict=True))
        return found

    def _bind(self, step: Step, tensors: dict[str, TensorSpec]) -> dict[str, TensorSpec]:
        names = (step.boxes, step.scores) if isinstance(step, Nms) else (step.tensor,)
        missing = [name for name in names if name not in tensors]
        if missing or len(set(names)) < len(names):
            raise ProcessingError(
                f"no tensor {names[0] if not missing else missing[0]!r} here; there are {sorted(tensors)}"
            )
        taken = [tensors[name] for name in names]
        bound = BINDERS[type(step)](step, *taken)
        left = {name: spec for name, spec in tensors.items() if name not in names}
        for spec in bound.gives:
            if spec.name in left:
                raise ProcessingError(f"it gives {spec.name!r}, a tensor that is there already")
            left[spec.name] = spec
        self.sample_bytes = max(self.sample_bytes, *(sample_bytes(spec) for spec in (*taken, *bound.gives)))
        self.touched |= {*names, *(spec.name for spec in bound.gives)}
        self._bound.append(bound)
        return left

    def _check_batch(self, tensors: Mapping[str, Any]) -> None:
        rows = max((len(array) for name, array in tensors.items() if name in self.touched and array.ndim), default=0)
        if rows * self.sample_bytes > MAX_BATCH_BYTES:
            raise ProcessingError(
                f"{self._where}: {rows} samples would take {rows * self.sample_bytes} bytes in one tensor; at most "
                f"{MAX_BATCH_BYTES // max(1, self.sample_bytes)} samples fit one request"
            )


def name_of(step: Step) -> str:
    """As the manifest writes it."""
    return str(type(step).__struct_config__.tag)
