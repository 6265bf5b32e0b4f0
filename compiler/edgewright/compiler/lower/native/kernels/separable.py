"""A depthwise convolution and its pointwise product, band by band of rows: what lies between stays in cache.

The two kernels are those of their own families, written for a band: each finds its pointers and constants under its
own names in a scope of its own. So this family has every tile that they have, and their order of sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Loop, Node, Scope
from ..net import NO_BORDER, Array, Convolution, Dense, Dtype, Separable, Tensor
from . import dense, depthwise

NAME = "separable"
POINTERS: Mapping[Dtype, str] = {"f32": "float *", "u8": "uint8_t *", "s8": "int8_t *"}
POINTWISE_TILES = 2


@dataclass(frozen=True)
class Step:
    """One of the two kernels of a band."""

    prefix: str
    """Of its constants among those of the whole."""
    kernel: Kernel
    x: tuple[str, ...]
    """Where its inputs begin in this band, C text."""
    y: str

    @property
    def constants(self) -> dict[str, Array]:
        return {f"{self.prefix}_{name}": array for name, array in self.kernel.constants.items()}

    def scope(self, scratch_offset: int) -> Scope:
        """Its body, with every name that it expects."""
        named = {f"x{index}": text for index, text in enumerate(self.x)}
        named |= {"y0": self.y, **{name: f"{self.prefix}_{name}" for name in self.kernel.constants}}
        if self.kernel.scratch_bytes:
            named["scratch"] = f"storage + {scratch_offset}"
        lines = [f"__auto_type {name} = {text};" for name, text in named.items()]
        lines += [f"const int64_t begin = 0, end = {self.kernel.units};"]
        unused = " ".join(f"(void){name};" for name in (*named, "begin", "end"))
        return Scope((*lines, unused, *self.kernel.body))


def separable_of(name: str, depthwise_family: Family, pointwise_family: Family) -> Family:
    """The family of pairs whose kernels these two write."""

    def tiles(layer: Separable, machine: Machine) -> tuple[Tile, ...]:
        if layer.depthwise.y.border or layer.depthwise.y.dtype not in POINTERS:
            return ()
        found = []
        for rows in _bands(layer, machine):
            upper, lower = _band(layer, rows)
            for inner in depthwise_family.tiles(upper, machine)[:1]:
                for outer in pointwise_family.tiles(lower, machine)[:POINTWISE_TILES]:
                    sizes = (("rows", rows), *_prefixed("d", inner), *_prefixed("p", outer))
                    found.append(Tile(name, sizes))
        return tuple(found)

    def kernel(layer: Separable, machine: Machine, tile: Tile) -> Kernel:
        height = layer.depthwise.y.shape[1]
        sizes = [size for size in (tile["rows"], height % tile["rows"]) if size]
        steps = []
        for index, rows in enumerate(sizes):
            upper, lower = _band(layer, rows)
            kernels = (
                depthwise_family.kernel(upper, machine, _inner(tile, "d", depthwise_family.name)),
                pointwise_family.kernel(lower, machine, _inner(tile, "p", pointwise_family.name)),
            )
            steps.append(_steps(layer, f"{index}", kernels))
        return _kernel(layer, tile["rows"], steps)

    return Family(name, tiles, kernel)


def _bands(layer: Separable, machine: Machine) -> tuple[int, ...]:
    """Rows per band, the best guess first: what lies between takes a quarter of L2, half of L1, or is all of it."""
    _, height, width, channels = layer.depthwise.y.shape
    row_bytes = width * channels * 4
    found = []
    for limit in (machine.l2_bytes // 4, machine.l1_bytes // 2):
        rows = min(height, max(1, limit // row_bytes))
        found.append(-(-height // -(-height // rows)))
    return tuple(dict.fromkeys((*found, height)))


def _prefixed(prefix: str, tile: Tile) -> tuple[tuple[str, int], ...]:
    return tuple((f"{prefix}_{name}", size) for name, size in tile.sizes)


def _inner(tile: Tile, prefix: str, family: str) -> Tile:
    own = tuple((name[2:], size) for name, size in tile.sizes if name.startswith(f"{prefix}_"))
    return Tile(family, own)


def _band(layer: Separable, rows: int) -> tuple[Convolution, Dense]:
    """Both layers for some rows of one picture; pointers to tensors are moved to the band."""
    upper, lower = layer.depthwise, layer.pointwise

    def of(tensor: Tensor) -> Tensor:
        return replace(tensor, shape=(1, rows, *tensor.shape[2:]))

    between = replace(of(upper.y), border=NO_BORDER)
    beside = [tuple(of(tensor) for tensor in each.epilogue.beside) for each in (upper, lower)]
    return (
        replace(upper, y=between, epilogue=replace(upper.epilogue, beside=beside[0])),
        replace(lower, x=between, y=of(lower.y), epilogue=replace(lower.epilogue, beside=beside[1])),
    )


def _steps(layer: Separable, index: str, kernels: tuple[Kernel, Kernel]) -> tuple[Step, Step]:
    upper, lower = layer.depthwise, layer.pointwise
    between = f"({POINTERS[upper.y.dtype]})storage"
    split = 1 + len(upper.epilogue.beside)

    def at(pointer: str, tensor: Tensor, step: int = 1) -> str:
        return f"{pointer} + picture * {tensor.strides[0]} + row * {step * tensor.strides[1]}"

    pointers = [at(f"in{i}", tensor, upper.strides[0] if i == 0 else 1) for i, tensor in enumerate(layer.inputs)]
    return (
        Step(f"d{index}", kernels[0], tuple(pointers[:split]), between),
        Step(
            f"p{index}",
            kernels[1],
            (f"(const {POINTERS[upper.y.dtype]})storage", *pointers[split:]),
            at("out0", lower.y),
        ),
    )


def _kernel(layer: Separable, rows: int, steps: list[tuple[Step, Step]]) -> Kernel:
    batch, height, width, channels = layer.depthwise.y.shape
    per_picture = -(-height // rows)
    between_bytes = -(-rows * width * channels * 4 // 64) * 64
    bands = [tuple(step.scope(between_bytes) for step in pair) for pair in steps]
    chosen: list[Node] = list(bands[0])
    if len(bands) > 1:
        chosen = [f"if (row + {rows} <= {height})", Scope(bands[0]), "else", Scope(bands[1])]
    body: list[Node] = [f"__auto_type in{i} = x{i};" for i in range(len(layer.inputs))]
    body += ["__auto_type out0 = y0;", "__auto_type storage = scratch;"]
    head = f"const int64_t picture = (int32_t)band / {per_picture}, row = (int32_t)band % {per_picture} * {rows};"
    body.append(Loop("band", "begin", "end", 1, (head, "(void)picture, (void)row;", *chosen)))
    return Kernel(
        body=tuple(body),
        constants={name: array for pair in steps for step in pair for name, array in step.constants.items()},
        scratch_bytes=between_bytes + max(step.kernel.scratch_bytes for pair in steps for step in pair),
        units=batch * per_picture,
    )


FAMILY = separable_of(NAME, depthwise.FAMILY, dense.FAMILY)
