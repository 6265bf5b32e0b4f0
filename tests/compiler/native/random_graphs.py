"""Random graphs over every operator that lowering knows, in combinations that nobody thought of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .drawing import chance, number, one_of
from .graph_writer import Writer
from .random_elementwise import (
    arithmetic,
    clip,
    compared,
    exponential,
    logic,
    positive,
    prelu,
    smooth,
    stepped,
    whole_numbers,
)
from .random_movement import blocks, concat, gathered, padded, repeated, reshaped, resized, sliced, split
from .random_products import (
    attention,
    convolution,
    gemm,
    matmul,
    normalization,
    pool,
    recurrent,
    reduction,
    transposed_convolution,
)

Step = Callable[[Writer], object]

STEPS: tuple[Step, ...] = (
    smooth, smooth, smooth, exponential, positive, stepped, clip, prelu, arithmetic, arithmetic, arithmetic, compared,
    logic, whole_numbers, convolution, convolution, convolution, convolution, transposed_convolution, pool, pool, gemm,
    gemm, matmul, matmul, attention, normalization, normalization, reduction, reduction, reshaped, reshaped, concat,
    split, sliced, padded, repeated, gathered, blocks, resized, recurrent,
)  # fmt: skip
SHAPES = (
    (24,),
    (7,),
    (64,),
    (5, 12),
    (3, 9, 8),
    (4, 8, 8),
    (1, 12, 10),
    (16, 6, 6),
    (17, 5, 7),
    (3, 16, 16),
    (32, 4, 4),
    (),
)


def random_writer(seed: int) -> tuple[Writer, list[str]]:
    """A graph of up to a dozen operators, and which of its values are outputs."""
    random = np.random.default_rng(seed)
    w = Writer(random, int(random.integers(1, 4)), int(random.choice([13, 18, 20, 21])))
    for _ in range(number(w, 1, 2)):
        w.input(random.normal(size=(w.batch, *one_of(w, *SHAPES))).astype(np.float32))
    for _ in range(number(w, 3, 20)):
        one_of(w, *STEPS)(w)
    read = {name for node in w.nodes for name in node.input}
    made = [name for name in w.values if name not in w.inputs]
    ends = [name for name in made if name not in read]
    more = [name for name in made if name in read and chance(w, 0.1)]
    return w, [*ends, *more][:8]
