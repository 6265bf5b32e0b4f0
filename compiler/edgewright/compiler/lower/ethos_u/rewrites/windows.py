"""Windows that move by more than three: an Ethos-U55 or U65 takes them without padding, depthwise ones not at all."""

from __future__ import annotations

import numpy as np

from ....tflite.file.model import Model, Operator
from ....tflite.file.schema import PADDING
from .draft import Draft, number

SAME, VALID = PADDING["SAME"], PADDING["VALID"]

PADS = frozenset({"PAD", "PADV2"})
WIDEST = 3
"""Steps that a window may make with padding (Vela's constraint)."""

Edges = tuple[tuple[int, int], tuple[int, int]]
"""(before, after) of the rows and of the columns."""
NO_EDGES: Edges = ((0, 0), (0, 0))


def slice_afterwards(model: Model, index: int) -> Model | None:
    """Windows by shorter steps, of whose outputs every n-th is taken; padding in an operator of its own.

    Outputs between them are computed too. Where a convolution moves by more than three and has no padding, Vela makes
    one operator of every output position, which is far slower.
    """
    operator = model.operators[index]
    window = _window(model, operator)
    if window is None or _dilated(operator):
        return None
    same = number(operator, "padding", SAME) == SAME
    edges = _edges(model, operator, window) if same else NO_EDGES
    draft = Draft(model, index)
    source = _padded(draft, edges, lowest=operator.type == "MAX_POOL_2D")
    steps = [max(step for step in range(1, WIDEST + 1) if stride % step == 0) for stride in _strides(operator)]
    reach = [(draft.tensor(source).shape[at] - window[at - 1]) // steps[at - 1] + 1 for at in (1, 2)]
    batch, _, _, channels = model.tensors[operator.outputs[0]].shape
    full = draft.like(operator.outputs[0], (batch, *reach, channels))
    options = {**operator.options, "padding": VALID, "strideH": steps[0], "strideW": steps[1]}
    draft.emit(operator.type, (source, *operator.inputs[1:]), full, options, operator.version)
    taken = [1, *(stride // step for stride, step in zip(_strides(operator), steps, strict=True)), 1]
    limits = [draft.integers([0] * 4), draft.integers(draft.tensor(full).shape), draft.integers(taken)]
    draft.emit("STRIDED_SLICE", [full, *limits], operator.outputs[0], version=2)
    return draft.model()


def shielded(model: Model) -> Model | None:
    """With a shield between every PAD and a convolution of wide strides; None where there is no such pair."""
    makers = {output: operator for operator in model.operators for output in operator.outputs}
    changed = model
    for index in reversed(range(len(model.operators))):
        operator = model.operators[index]
        maker = makers.get(operator.inputs[0]) if operator.inputs else None
        if operator.type == "CONV_2D" and max(_strides(operator)) > WIDEST and maker and maker.type in PADS:
            draft = Draft(changed, index)
            source = shield(draft, operator.inputs[0])
            inputs = (source, *operator.inputs[1:])
            draft.emit(operator.type, inputs, operator.outputs[0], operator.options, operator.version)
            changed = draft.model()
    return None if changed is model else changed


def shield(draft: Draft, source: int) -> int:
    """A PAD that adds nothing.

    Vela 5.2 makes the padding before a convolution a part of it, then finds that it has padding and a wide stride, and
    gives up on the whole model ("Non-passthrough operation (Conv2D) could not run on NPU"). It does so once, and this
    is what it takes.
    """
    shape = draft.tensor(source).shape
    return draft.emit("PAD", [source, draft.integers(np.zeros((len(shape), 2)))], draft.like(source, shape), version=2)


def _strides(operator: Operator) -> tuple[int, int]:
    return number(operator, "strideH"), number(operator, "strideW")


def _dilated(operator: Operator) -> bool:
    return any(number(operator, key, 1) != 1 for key in ("dilationHFactor", "dilationWFactor"))


def _window(model: Model, operator: Operator) -> tuple[int, int] | None:
    """Rows and columns of the window; None where this is no window over a picture."""
    ends = (model.tensors[operator.inputs[0]].shape, model.tensors[operator.outputs[0]].shape)
    if min(_strides(operator)) < 1 or any(len(shape) != 4 for shape in ends):
        return None
    if operator.type == "MAX_POOL_2D":
        return number(operator, "filterHeight"), number(operator, "filterWidth")
    shape = model.tensors[operator.inputs[1]].shape
    return (shape[1], shape[2]) if len(shape) == 4 else None


def _edges(model: Model, operator: Operator, window: tuple[int, int]) -> Edges:
    """What SAME adds, as `ComputePaddingWithOffset` of TFLite's kernels/padding.h: the odd one goes after."""
    source, output = (model.tensors[side[0]].shape for side in (operator.inputs, operator.outputs))
    edges = []
    for at, (size, stride) in enumerate(zip(window, _strides(operator), strict=True), start=1):
        total = max((output[at] - 1) * stride + size - source[at], 0)
        edges.append((total // 2, total - total // 2))
    return edges[0], edges[1]


def _padded(draft: Draft, edges: Edges, *, lowest: bool) -> int:
    """The operator's first input with edges around it."""
    source = draft.operator.inputs[0]
    if edges == NO_EDGES:
        return source
    batch, rows, columns, channels = draft.tensor(source).shape
    padded = draft.like(source, (batch, rows + sum(edges[0]), columns + sum(edges[1]), channels))
    paddings = draft.integers(np.array([(0, 0), *edges, (0, 0)]))
    if not lowest:
        return draft.emit("PAD", [source, paddings], padded, version=2)
    dtype = np.dtype(draft.tensor(source).type.lower())
    value = np.array([np.iinfo(dtype).min], dtype)
    return draft.emit("PADV2", [source, paddings, draft.constant(source, value)], padded, version=2)
