"""What the caller gives and takes lies in memory of its own: aliases never join two of his tensors."""

from __future__ import annotations

from dataclasses import replace

from ..net import Alias, Layer, Move, Net, Part


def keep_ports_apart(net: Net) -> Net:
    """The same net, with a copy where an alias would put two inputs or outputs into the same bytes."""
    group_of: dict[str, str] = {}
    ports = {tensor.name for tensor in (*net.inputs, *net.outputs)}
    owned = set(ports)  # groups that hold a port, by the name that stands for the group

    def group(name: str) -> str:
        while name in group_of:
            name = group_of[name]
        return name

    def kept(layer: Layer) -> Layer:
        if not isinstance(layer, Alias):
            return layer
        source, target = group(layer.x.name), group(layer.y.name)
        if source in owned and target in owned:
            part = Part(x=layer.x, extents=(layer.x.elements,), x_strides=(1,), y_strides=(1,))
            return Move(y=layer.y, parts=(part,), origin=layer.origin)
        if source != target:
            group_of[target] = source
            if target in owned:
                owned.add(source)
        return layer

    return replace(net, layers=tuple(kept(layer) for layer in net.layers))
