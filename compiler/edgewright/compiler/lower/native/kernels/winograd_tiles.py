"""Which blocks are worth trying for a Winograd convolution, and whether it pays at all, by a rough count of cycles."""

from __future__ import annotations

from collections.abc import Iterator

from ..machine import Machine
from ..net import Convolution
from .direct_block import balanced, channel_blocks
from .direct_tiles import best_cycles, block_cycles, is_direct
from .winograd_scheme import LONGEST, scheme

PAD_FLOATS = 16
"""What keeps parts of the scratch from meeting in few sets of the cache: one line."""
FEWEST_CHANNELS = 8
"""In and out; below, transforms cost more than they save."""


def tile_sizes(layer: Convolution, machine: Machine) -> Iterator[dict[str, int]]:
    """At most ten, the best guess first; none where the definition is expected to be faster."""
    if not is_winograd(layer):
        return
    guesses = sorted((cycles(layer, machine, *shape), shape) for shape in _shapes(layer, machine))
    if guesses and guesses[0][0] < best_cycles(layer, machine):
        for _, (rows, positions, vectors) in guesses[:8]:
            yield {"rows": rows, "positions": positions, "vectors": vectors}


def is_winograd(layer: Convolution) -> bool:
    """Whether it is a float32 convolution without strides, dilation or groups that has channels enough."""
    return (
        is_direct(layer)
        and 1 < max(layer.weight.shape[1:3]) <= LONGEST
        and layer.strides == layer.dilations == (1, 1)
        and layer.groups == 1
        and min(layer.y.shape[1:3]) >= 2
        and min(layer.weight.shape[0], layer.weight.shape[3]) >= FEWEST_CHANNELS
    )


def places(layer: Convolution) -> int:
    """Of a transformed patch: matrix products."""
    return scheme(layer.weight.shape[1]).places * scheme(layer.weight.shape[2]).places


def patch_floats(channels: int) -> int:
    """Between two patches of a place. Multiples of a large power of two would meet in few sets of the cache."""
    return channels + PAD_FLOATS if channels % 128 == 0 else channels


def scratch_floats(patches: int, channels: int) -> int:
    """Between two places. A power of two would put all of them into one set of the cache."""
    return patches * channels + PAD_FLOATS


def _shapes(layer: Convolution, machine: Machine) -> Iterator[tuple[int, int, int]]:
    down, across = (-(-size // 2) for size in layer.y.shape[1:3])
    most_vectors = -(-layer.weight.shape[0] // machine.lanes)
    seen = set()
    for wanted in range(1, down + 1):
        rows = max(size for _, size, _ in balanced(down, wanted))
        for vectors in range(1, min(most_vectors, 4) + 1):
            most = (machine.registers - vectors - 1) // vectors
            positions = max(size for _, size, _ in balanced(rows * across, most))
            shape = (rows, positions, vectors)
            if shape not in seen and (rows == 1 or scratch_bytes(layer, machine, shape) <= machine.l2_bytes * 3 // 4):
                seen.add(shape)
                yield shape


def scratch_bytes(layer: Convolution, machine: Machine, shape: tuple[int, int, int]) -> int:
    """Of transformed patches and products."""
    patches, deep = shape[0] * -(-layer.y.shape[2] // 2), layer.x.shape[-1]
    return 4 * places(layer) * patches * (deep + shape[2] * machine.lanes)


def cycles(layer: Convolution, machine: Machine, rows: int, positions: int, vectors: int) -> float:
    """Of one picture: transforms, products, and weights that come from a farther cache for every block of rows."""
    channels, deep = layer.y.shape[-1], layer.x.shape[-1]
    down, across = (-(-size // 2) for size in layer.y.shape[1:3])
    blocks = channel_blocks(channels, vectors, machine)
    in_vectors, out_vectors = -(-deep // machine.lanes), sum(len(block.vectors) for block in blocks)
    products = places(layer)
    total = down * across * products * (in_vectors * 2.0 + out_vectors * 2.5)
    if scratch_bytes(layer, machine, (rows, positions, vectors)) > machine.l1_bytes * 3 // 2:
        total += down * across * products * (in_vectors + out_vectors)
    weight_bytes = products * channels * deep * 4
    for _, high, many in balanced(down, rows):
        for block in blocks:
            for _, size, count in balanced(high * across, positions):
                each = block_cycles(size, len(block.vectors), deep, machine, block.width * deep * 4, end=1.0)
                # Patches that do not stay in the first cache are read from the second for every block of channels.
                far = size * deep * 4 > machine.l1_bytes * 3 // 4
                total += products * many * count * (each + (size * deep / 4 if far else 0))
        total += many * weight_bytes / (16 if weight_bytes > machine.l2_bytes else 64)
    return total
