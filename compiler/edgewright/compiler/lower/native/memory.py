"""Places every tensor of a net in one static arena: two may share bytes when neither lives while the other does.

Largest first, each at the lowest place that no tensor of its lifetime holds (greedy by size, as in Pisarchyk & Lee,
"Efficient memory management for deep neural net inference", 2020).
"""

from __future__ import annotations

from dataclasses import dataclass

from .net import Alias, Net

ALIGNMENT_BYTES = 64


@dataclass(frozen=True)
class Arena:
    """Where tensors lie; those of the caller (inputs and outputs) are not in it."""

    offsets: dict[str, int]
    """By tensor name, in bytes."""
    scratch: tuple[int, ...]
    """Where the scratch of each layer lies, in bytes."""
    size_bytes: int
    stands_for: dict[str, str]
    """Of an alias: the tensor whose bytes it is."""


@dataclass
class _Block:
    size_bytes: int
    first: int
    last: int
    offset: int = 0


def plan_arena(net: Net, scratch_bytes: tuple[int, ...]) -> Arena:
    """Places tensors and the scratch of each layer; layers run in order."""
    stands_for = _aliases(net)
    outside = {tensor.name for tensor in (*net.inputs, *net.outputs)}
    blocks: dict[str, _Block] = {}
    for index, layer in enumerate(net.layers):
        for tensor in (*layer.inputs, *layer.outputs):
            name = stands_for.get(tensor.name, tensor.name)
            if name in outside:
                continue
            block = blocks.setdefault(name, _Block(aligned(tensor.size_bytes), index, index))
            block.size_bytes = max(block.size_bytes, aligned(tensor.size_bytes))
            block.last = index
    scratch = {index: _Block(aligned(size), index, index) for index, size in enumerate(scratch_bytes)}
    _place([*blocks.values(), *(block for block in scratch.values() if block.size_bytes)])
    everything = [*blocks.values(), *scratch.values()]
    return Arena(
        offsets={name: block.offset for name, block in blocks.items()},
        scratch=tuple(block.offset for block in scratch.values()),
        size_bytes=max((block.offset + block.size_bytes for block in everything), default=0),
        stands_for=stands_for,
    )


def _aliases(net: Net) -> dict[str, str]:
    """Every alias by the name whose memory it is: an output's where one end is an output, else its source's."""
    outputs = {tensor.name for tensor in net.outputs}
    stands_for: dict[str, str] = {}
    for layer in net.layers:
        if isinstance(layer, Alias):
            source = stands_for.get(layer.x.name, layer.x.name)
            if layer.y.name in outputs:  # the source is then written straight into the caller's memory
                for name, known in list(stands_for.items()):
                    if known == source:
                        stands_for[name] = layer.y.name
                stands_for[source] = layer.y.name
            else:
                stands_for[layer.y.name] = source
    return stands_for


def aligned(size_bytes: int) -> int:
    """The next multiple of the alignment."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _place(blocks: list[_Block]) -> None:
    placed: list[_Block] = []
    for block in sorted(blocks, key=lambda block: (-block.size_bytes, block.first)):
        rivals = sorted(
            (other for other in placed if other.first <= block.last and block.first <= other.last),
            key=lambda other: other.offset,
        )
        offset = 0
        for other in rivals:
            if offset + block.size_bytes <= other.offset:
                break
            offset = max(offset, other.offset + other.size_bytes)
        block.offset = offset
        placed.append(block)
