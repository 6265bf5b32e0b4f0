"""Random operators that move data."""

from __future__ import annotations

import numpy as np

from .drawing import chance, number, one_of
from .graph_writer import Writer

TILED = ("edge", "reflect", "wrap")


def reshaped(w: Writer) -> None:
    x = w.pick(one_of(w, "f", "f", "f", "i", "b"))
    if not x:
        return
    shape = w.values[x].shape
    kind = one_of(w, "Transpose", "Transpose", "Reshape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
    if kind == "Transpose":
        w.node(kind, x, perm=[int(axis) for axis in w.random.permutation(len(shape))])
    elif kind == "Reshape":
        w.node(kind, x, w.whole(*factored(w, int(np.prod(shape)))))
    elif kind == "Flatten":
        w.node(kind, x, axis=number(w, 0, len(shape)))
    elif kind == "Squeeze":
        ones = [axis for axis, size in enumerate(shape) if size == 1]
        if ones and len(shape) > 1:
            w.node(kind, x, w.whole(int(w.random.choice(ones))))
    elif kind == "Unsqueeze" and len(shape) < 4:
        w.node(kind, x, w.whole(number(w, 0, len(shape))))
    else:
        w.node("Identity", x)


def factored(w: Writer, total: int) -> list[int]:
    """A random shape of so many elements."""
    shape = []
    for _ in range(number(w, 0, 3)):
        divisors = [each for each in range(1, min(total, 40) + 1) if total % each == 0]
        shape.append(int(w.random.choice(divisors)))
        total //= shape[-1]
    shape.append(total)
    if chance(w, 0.3):
        shape[number(w, 0, len(shape) - 1)] = -1
    return shape


def concat(w: Writer) -> None:
    x = w.pick()
    if not x:
        return
    shape = w.values[x].shape
    axis = number(w, 0, len(shape) - 1)
    others = [
        name for name, array in w.values.items()
        if array.dtype == np.float32 and array.ndim == len(shape)
        and all(a == b for index, (a, b) in enumerate(zip(array.shape, shape, strict=True)) if index != axis)
    ]  # fmt: skip
    chosen = [x, *(str(each) for each in w.random.choice(others, number(w, 1, 2)))]
    if chance(w, 0.2):
        chosen.insert(0, w.floats(*shape[:axis], 2, *shape[axis + 1 :]))
    w.node("Concat", *chosen, axis=one_of(w, axis, axis - len(shape)))


def split(w: Writer) -> None:
    x = w.pick()
    if not x:
        return
    shape = w.values[x].shape
    axis = number(w, 0, len(shape) - 1)
    if shape[axis] < 2:
        return
    cut = number(w, 1, shape[axis] - 1)
    if chance(w, 0.3):
        w.node("Split", x, results=2, axis=axis, num_outputs=2)
    else:
        w.node("Split", x, w.whole(cut, shape[axis] - cut), results=2, axis=axis)


def sliced(w: Writer) -> None:
    x = w.pick(one_of(w, "f", "f", "i", "b"))
    if not x:
        return
    shape = w.values[x].shape
    axes = [int(axis) for axis in w.random.choice(len(shape), number(w, 1, min(2, len(shape))), replace=False)]
    starts: list[int] = []
    ends: list[int] = []
    steps: list[int] = []
    for axis in axes:
        low = number(w, 0, shape[axis] - 1)
        high, step = number(w, low + 1, shape[axis]), one_of(w, 1, 1, 2, 3)
        if chance(w, 0.25):
            low, high, step = high - 1, low - 1 - shape[axis] if low == 0 else low - 1, -step
        starts, ends, steps = [*starts, low], [*ends, high], [*steps, step]
    w.node("Slice", x, w.whole(*starts), w.whole(*ends), w.whole(*axes), w.whole(*steps))


def padded(w: Writer) -> None:
    x = w.pick()
    if not x:
        return
    shape = w.values[x].shape
    mode = one_of(w, "constant", "constant", *TILED)
    room = [2 if mode == "constant" else min(2, size - 1) for size in shape]
    before, after = ([number(w, 0, each) if chance(w, 0.5) else 0 for each in room] for _ in range(2))
    if mode == "constant" and chance(w, 0.2):
        after[-1] = -1
    value = [w.constant(np.float32(one_of(w, 0, 0, 1.5)))] if mode == "constant" and chance(w, 0.7) else []
    w.node("Pad", x, w.whole(*before, *after), *value, mode=mode)


def repeated(w: Writer) -> None:
    x = w.pick()
    if not x:
        return
    shape = w.values[x].shape
    if chance(w, 0.5):
        w.node("Tile", x, w.whole(*(one_of(w, 1, 1, 2, 3) for _ in shape)))
    else:
        wide = [number(w, 2, 4) if size == 1 else size for size in shape]
        w.node("Expand", x, w.whole(*([2] if chance(w, 0.2) else []), *wide))


def gathered(w: Writer) -> None:
    """At constant places, or at those of an input."""
    x = w.pick()
    if not x:
        return
    shape = w.values[x].shape
    axis = number(w, 0, len(shape) - 1)
    size = [number(w, 1, 4) for _ in range(number(w, 0, 2))]
    if chance(w, 0.5):
        places = w.constant(w.random.integers(-shape[axis], shape[axis], size))
    else:
        places = w.input(w.random.integers(-shape[axis], shape[axis], [w.batch, *size]))
    w.node(
        "Gather",
        *((x, places) if chance(w, 0.8) else (w.floats(shape[axis], 5), places)),
        axis=0 if chance(w, 0.3) else axis,
    )


def blocks(w: Writer) -> None:
    x = w.pick(ranks=(4,))
    if x:
        mode = {"mode": one_of(w, "DCR", "CRD")}
        w.node("DepthToSpace", x, blocksize=2, **mode) or w.node("SpaceToDepth", x, blocksize=number(w, 2, 3))


def resized(w: Writer) -> None:
    x = w.pick(ranks=(3, 4))
    if not x:
        return
    shape = w.values[x].shape
    mode = one_of(w, "nearest", "linear")
    places = one_of(w, "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    attributes = {"mode": mode, "coordinate_transformation_mode": places}
    if mode == "nearest":
        attributes["nearest_mode"] = one_of(w, "floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    if chance(w, 0.5):
        sizes = [*shape[:2], *(max(1, size * number(w, 1, 4) // 2) for size in shape[2:])]
        w.node("Resize", x, "", "", w.whole(*sizes), **attributes)
    else:
        scales = [1, 1, *(one_of(w, 0.5, 1, 2, 2, 3) for _ in shape[2:])]
        w.node("Resize", x, "", w.constant(np.array(scales, np.float32)), **attributes)
