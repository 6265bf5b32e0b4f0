"""Who writes and who reads each tensor of a net."""

from __future__ import annotations

from collections import Counter, defaultdict

from ..net import Layer, Move, Net, Tensor


def is_border_fill(layer: Layer) -> bool:
    """Whether a layer writes only a border, beside the layer that makes the tensor itself."""
    return (
        isinstance(layer, Move)
        and layer.fill is None
        and bool(layer.y.border)
        and all(not isinstance(part.x, Tensor) for part in layer.parts)
    )


class Links:
    """Of one state of a net; made anew after every rewrite."""

    def __init__(self, net: Net) -> None:
        self.writer: dict[str, int] = {}
        """Position of the layer that makes a tensor (not the one that fills its border)."""
        self.readers: dict[str, list[int]] = defaultdict(list)
        for index, layer in enumerate(net.layers):
            for name in dict.fromkeys(tensor.name for tensor in layer.inputs):
                self.readers[name].append(index)
            if not is_border_fill(layer):
                self.writer.update({tensor.name: index for tensor in layer.outputs})
        self.outside = {tensor.name for tensor in (*net.inputs, *net.outputs)}

    def only_reader(self, tensor: Tensor) -> int | None:
        """The one layer that reads a tensor which the caller does not see; None where there is no such."""
        readers = self.readers.get(tensor.name, [])
        return readers[0] if len(readers) == 1 and tensor.name not in self.outside else None


def without_dead_layers(net: Net) -> Net:
    """Layers whose results nobody reads are left out."""
    layers = list(net.layers)
    outside = {tensor.name for tensor in net.outputs}
    while True:
        read = Counter(tensor.name for layer in layers for tensor in layer.inputs)
        kept = [layer for layer in layers if any(t.name in outside or read[t.name] for t in layer.outputs)]
        if len(kept) == len(layers):
            return Net(net.inputs, net.outputs, tuple(layers))
        layers = kept
