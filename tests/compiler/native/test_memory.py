"""The arena: no two tensors that live at one time share a byte, and little is wasted."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.lower.native.expression import Beside, call
from edgewright.compiler.lower.native.fusion.ports import keep_ports_apart
from edgewright.compiler.lower.native.memory import ALIGNMENT_BYTES, plan_arena
from edgewright.compiler.lower.native.net import Alias, Layer, Map, Net, Operand, Tensor


def add(y: Tensor, *sources: Tensor) -> Map:
    value = Beside(0) if len(sources) == 1 else call("add", Beside(0), Beside(1))
    return Map(y=y, value=value, operands=tuple(Operand(source, (1,)) for source in sources))


@st.composite
def nets(draw: st.DrawFn) -> tuple[Net, tuple[int, ...]]:
    """A random order of layers of one or two sources; some are aliases of what came before."""
    sizes = st.integers(1, 4000)
    first = Tensor("in", (draw(sizes),))
    known, layers = [first], list[Layer]()
    for index in range(draw(st.integers(1, 12))):
        source = draw(st.sampled_from(known))
        if source is not first and draw(st.booleans()):
            tensor = Tensor(f"t{index}", (1, *source.shape))
            layers.append(Alias(x=source, y=tensor))
        else:
            tensor = Tensor(f"t{index}", (draw(sizes),))
            layers.append(add(tensor, source, draw(st.sampled_from(known))))
        known.append(tensor)
    last = Tensor("out", (5,))
    layers.append(add(last, known[-1]))
    return Net((first,), (last,), tuple(layers)), tuple(draw(st.integers(0, 500)) for _ in layers)


@given(nets())
def test_what_lives_at_one_time_lies_apart(drawn: tuple[Net, tuple[int, ...]]) -> None:
    net, scratch_bytes = drawn
    arena = plan_arena(net, scratch_bytes)
    spans: list[tuple[int, int, int, int]] = []  # first layer, last layer, begin, end
    names: dict[str, list[int]] = {}
    sizes: dict[str, int] = {}
    for index, layer in enumerate(net.layers):
        for tensor in (*layer.inputs, *layer.outputs):
            name = arena.stands_for.get(tensor.name, tensor.name)
            names.setdefault(name, []).append(index)
            sizes[name] = max(sizes.get(name, 0), tensor.size_bytes)
        if scratch_bytes[index]:
            spans.append((index, index, arena.scratch[index], arena.scratch[index] + scratch_bytes[index]))
    for name, uses in names.items():
        if name in arena.offsets:
            spans.append((min(uses), max(uses), arena.offsets[name], arena.offsets[name] + sizes[name]))
    for index, one in enumerate(spans):
        assert one[2] % ALIGNMENT_BYTES == 0
        assert one[3] <= arena.size_bytes
        for other in spans[index + 1 :]:
            together = one[0] <= other[1] and other[0] <= one[1]
            assert not (together and one[2] < other[3] and other[2] < one[3]), (one, other)


def test_a_chain_needs_two_tensors_at_a_time() -> None:
    chain = [Tensor(f"t{index}", (1024,)) for index in range(10)]
    first, last = Tensor("in", (1024,)), Tensor("out", (1024,))
    steps = [first, *chain, last]
    net = Net((first,), (last,), tuple(add(y, x) for x, y in pairwise(steps)))
    assert plan_arena(net, (0,) * len(net.layers)).size_bytes == 2 * 4096


def test_two_outputs_of_one_value_are_both_written() -> None:
    """Aliases that join them through a third tensor would leave one of them as the caller gave it."""
    first, made, twin = Tensor("in", (6,)), Tensor("made", (6,)), Tensor("twin", (1, 6))
    outputs = Tensor("out0", (6,)), Tensor("out1", (6,))
    aliases = Alias(x=made, y=twin), Alias(x=made, y=outputs[0]), Alias(x=twin, y=outputs[1])
    apart = keep_ports_apart(Net((first,), outputs, (add(made, first), *aliases)))
    assert [type(layer).__name__ for layer in apart.layers] == ["Map", "Alias", "Alias", "Move"]
    stands_for = plan_arena(apart, (0,) * 4).stands_for
    assert {stands_for.get(name, name) for name in ("made", "twin", "out0")} == {"out0"}
    assert stands_for.get("out1", "out1") == "out1"


def test_what_stands_for_an_output_is_written_straight_into_it() -> None:
    first, made, last = Tensor("in", (6,)), Tensor("made", (6,)), Tensor("out", (2, 3))
    arena = plan_arena(Net((first,), (last,), (add(made, first), Alias(x=made, y=last))), (0, 0))
    assert arena.stands_for == {"made": "out"}
    assert arena.size_bytes == 0
