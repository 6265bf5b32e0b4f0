"""LSTM and GRU: step by step, a vector of units with all its gates at a time.

Weights are packed by block of units, then by input, then by gate, so that one step reads them once, in order, and gates
never leave the registers. The sums over the input and over the state are taken apart, each in order, and then added:
the same on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..kernel import Family, Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Loop, Node, Scope, loop, tiled
from ..net import Array, Recurrent
from .epilogue import load, store

NAME = "recurrent"
LSTM = ("i", "o", "f", "c")
GRU = ("z", "r", "h")
Block = Callable[[Affine, int], list[Node]]
"""Lines for the units from one on, and how many of a vector there are."""


def tiles(layer: Recurrent, _machine: Machine) -> tuple[Tile, ...]:
    """One, for float32."""
    return (Tile(NAME),) if all(tensor.dtype == "f32" for tensor in (*layer.inputs, *layer.outputs)) else ()


def kernel(layer: Recurrent, machine: Machine, _tile: Tile) -> Kernel:
    """One unit: steps depend on each other."""
    return _Writer(layer, machine).kernel()


def packed(weight: Array, gates: int, lanes: int) -> Array:
    """(gates * H, C) to (H / lanes, C, gates, lanes), zeros where H ends."""
    hidden, depth = weight.shape[0] // gates, weight.shape[1]
    padded = np.zeros((gates, -(-hidden // lanes) * lanes, depth), np.float32)
    padded[:, :hidden] = weight.reshape(gates, hidden, depth)
    return np.ascontiguousarray(padded.reshape(gates, -1, lanes, depth).transpose(1, 3, 0, 2))


class _Writer:
    """The body of one layer. Units beyond H have weights and states of zero, and stay there."""

    def __init__(self, layer: Recurrent, machine: Machine) -> None:
        self.layer, self.lanes, self.kind = layer, machine.lanes, f"f32x{machine.lanes}"
        self.gates = LSTM if layer.kind == "lstm" else GRU
        self.steps, self.batch, self.depth = layer.x.shape
        self.hidden = layer.weight.shape[0] // len(self.gates)
        self.width = -(-self.hidden // self.lanes) * self.lanes
        self.state = self.batch * self.width

    def kernel(self) -> Kernel:
        constants = self._weights()
        names = ("now", "next", "cell", "held", "update")
        pointers = [f"float *{name} = (float *)scratch + {index * self.state};" for index, name in enumerate(names)]
        body: list[Node] = [*pointers, "(void)cell, (void)held, (void)update;", *self._begin()]
        body.append(Loop("t", "0", str(self.steps), 1, tuple(self._step())))
        body += self._end()
        return Kernel(body=tuple(body), constants=constants, scratch_bytes=4 * len(names) * self.state)

    def _weights(self) -> dict[str, Array]:
        layer, count = self.layer, len(self.gates)
        bias = np.zeros((2, count, self.width))
        bias[:, :, : self.hidden] = layer.bias.reshape(2, count, self.hidden)
        if layer.kind == "gru" and layer.linear_before_reset:
            bias[0, :2] += bias[1, :2]
            bias[1, :2] = 0
        else:
            bias = np.stack([bias.sum(0), np.zeros_like(bias[0])])
        rows = layer.recurrence.reshape(count, self.hidden, self.hidden)
        found = {"bias": bias.astype(np.float32), "weight": packed(layer.weight, count, self.lanes)}
        if layer.kind == "gru" and not layer.linear_before_reset:
            found["recurrence"] = packed(rows[:2].reshape(-1, self.hidden), 2, self.lanes)
            found["candidate"] = packed(rows[2], 1, self.lanes)
        else:
            found["recurrence"] = packed(layer.recurrence, count, self.lanes)
        return found

    def _begin(self) -> list[Node]:
        nodes = loop("z", 2 * self.state, lambda z: [f"now[{z}] = 0;"])
        nodes += loop("z", self.state, lambda z: [f"cell[{z}] = 0;"])
        given = 1
        for name, initial in zip(("now", "cell"), self.layer.initial, strict=False):
            if initial is not None:
                nodes += self._rows(name, f"x{given}", into_state=True)
                given += 1
        return nodes

    def _end(self) -> list[Node]:
        nodes: list[Node] = []
        made = int(self.layer.y is not None)
        for name, last in zip(("now", "cell"), self.layer.last, strict=False):
            if last is not None:
                nodes += self._rows(name, f"y{made}", into_state=False)
                made += 1
        return nodes

    def _rows(self, state: str, port: str, *, into_state: bool) -> list[Node]:
        def element(n: Affine, h: Affine) -> list[Node]:
            inside, outside = f"{state}[{n * self.width + h}]", f"{port}[{n * self.hidden + h}]"
            return [f"{inside} = {outside};" if into_state else f"{outside} = {inside};"]

        return loop("n", self.batch, lambda n: loop("h", self.hidden, lambda h: element(n, h)))

    def _step(self) -> list[Node]:
        at = f"{self.steps - 1} - t" if self.layer.reverse else "t"
        nodes: list[Node] = [f"const int64_t at = {at};"]
        nodes += loop("n", self.batch, self._sample)
        return [*nodes, "float *const old = now;", "now = next;", "next = old;"]

    def _sample(self, n: Affine) -> list[Node]:
        nodes: list[Node] = [
            f"const float *x = x0 + at * {self.batch * self.depth} + {n * self.depth};",
            f"const float *h = now + {n * self.width};",
        ]
        if self.layer.kind == "lstm":
            return [*nodes, *self._blocks(lambda j, count: self._lstm(n, j, count))]
        if self.layer.linear_before_reset:
            return [*nodes, *self._blocks(lambda j, count: self._gru(n, j, count))]
        return [
            *nodes,
            *self._blocks(lambda j, _: self._reset(n, j)),
            f"const float *g = held + {n * self.width};",
            *self._blocks(lambda j, count: self._candidate(n, j, count)),
        ]

    def _blocks(self, block: Block) -> list[Node]:
        return tiled("j", self.hidden, self.lanes, lambda j, count: [Scope(tuple(block(j, count)))])

    def _sums(
        self, names: Sequence[str], weights: str, packed_gates: int, source: str, depth: int, j: Affine
    ) -> list[Node]:
        """Adds weights times a vector to sums, which are declared; the first `names` of the packed gates."""

        def step(c: Affine) -> list[Node]:
            at = j * (depth * packed_gates) + c * (packed_gates * self.lanes)
            lines: list[Node] = [f"const {self.kind} b = ew_splat_{self.kind}({source}[{c}]);"]
            for gate, name in enumerate(names):
                if name:
                    w = f"ew_load_{self.kind}({weights} + {at + gate * self.lanes})"
                    lines.append(f"{name} = ew_fma_{self.kind}(b, {w}, {name});")
            return lines

        return loop("c", depth, step)

    def _bias(self, name: str, row: int, gate: int, j: Affine) -> str:
        at = j + (row * len(self.gates) + gate) * self.width
        return f"{self.kind} {name} = ew_load_{self.kind}(bias + {at});"

    def _all_sums(self, j: Affine) -> list[Node]:
        """x<gate> and h<gate>: what input and state add to every gate, biases included."""
        count = len(self.gates)
        nodes: list[Node] = []
        for gate, name in enumerate(self.gates):
            nodes += [self._bias(f"x{name}", 0, gate, j), self._bias(f"h{name}", 1, gate, j)]
        nodes += self._sums([f"x{name}" for name in self.gates], "weight", count, "x", self.depth, j)
        return [*nodes, *self._sums([f"h{name}" for name in self.gates], "recurrence", count, "h", self.hidden, j)]

    def _lstm(self, n: Affine, j: Affine, count: int) -> list[Node]:
        kind, at = self.kind, n * self.width + j
        gate = {name: f"ew_add_{kind}(x{name}, h{name})" for name in self.gates}
        return [
            *self._all_sums(j),
            f"const {kind} new = ew_mul_{kind}(ew_sigmoid_{kind}({gate['i']}), ew_tanh_{kind}({gate['c']}));",
            f"const {kind} c = ew_fma_{kind}(ew_sigmoid_{kind}({gate['f']}), ew_load_{kind}(cell + {at}), new);",
            f"ew_store_{kind}(cell + {at}, c);",
            *self._output(f"ew_mul_{kind}(ew_sigmoid_{kind}({gate['o']}), ew_tanh_{kind}(c))", n, j, count),
        ]

    def _gru(self, n: Affine, j: Affine, count: int) -> list[Node]:
        kind = self.kind
        return [
            *self._all_sums(j),
            f"const {kind} z = ew_sigmoid_{kind}(ew_add_{kind}(xz, hz));",
            f"const {kind} r = ew_sigmoid_{kind}(ew_add_{kind}(xr, hr));",
            f"const {kind} c = ew_tanh_{kind}(ew_fma_{kind}(r, hh, xh));",
            *self._mixed(n, j, count),
        ]

    def _reset(self, n: Affine, j: Affine) -> list[Node]:
        kind, at = self.kind, n * self.width + j
        return [
            *(self._bias(f"x{name}", 0, gate, j) for gate, name in enumerate("zr")),
            f"{kind} hz = {{0}}, hr = {{0}};",
            *self._sums(("xz", "xr", ""), "weight", 3, "x", self.depth, j),
            *self._sums(("hz", "hr"), "recurrence", 2, "h", self.hidden, j),
            f"ew_store_{kind}(update + {at}, ew_sigmoid_{kind}(ew_add_{kind}(xz, hz)));",
            f"const {kind} r = ew_sigmoid_{kind}(ew_add_{kind}(xr, hr));",
            f"ew_store_{kind}(held + {at}, ew_mul_{kind}(r, ew_load_{kind}(h + {j})));",
        ]

    def _candidate(self, n: Affine, j: Affine, count: int) -> list[Node]:
        kind = self.kind
        return [
            self._bias("xh", 0, 2, j),
            f"{kind} hh = {{0}};",
            *self._sums(("", "", "xh"), "weight", 3, "x", self.depth, j),
            *self._sums(("hh",), "candidate", 1, "g", self.hidden, j),
            f"const {kind} z = ew_load_{kind}(update + {n * self.width + j});",
            f"const {kind} c = ew_tanh_{kind}(ew_add_{kind}(xh, hh));",
            *self._mixed(n, j, count),
        ]

    def _mixed(self, n: Affine, j: Affine, count: int) -> list[Node]:
        """(1 - z) c + z h, as c + z (h - c)."""
        kind = self.kind
        away = f"ew_sub_{kind}({load(f'h + {j}', 'f32', 'f32', self.lanes, self.lanes)}, c)"
        return self._output(f"ew_fma_{kind}(z, {away}, c)", n, j, count)

    def _output(self, value: str, n: Affine, j: Affine, count: int) -> list[Node]:
        kind = self.kind
        nodes: list[Node] = [f"const {kind} y = {value};", f"ew_store_{kind}(next + {n * self.width + j}, y);"]
        if self.layer.y is not None:
            place = f"y0 + at * {self.batch * self.hidden} + {n * self.hidden + j}"
            nodes.append(store(place, "f32", "y", self.lanes, count))
        return nodes


FAMILY = Family(NAME, tiles, kernel)
