"""Int8 products by register blocks of positions x channel vectors: what dense layers and convolutions share.

A window is runs of neighbouring bytes of x, all of one length; each run is read in groups of four, which meet the
weights of a whole vector of output channels at once (`ew_dot.h`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..kernel import Kernel, Tile
from ..machine import Machine
from ..nest import Affine, Loop, Node, Scope, loop, number, tiled, variable
from ..net import Array, Tensor
from .epilogue import finish, row_constants
from .int8_packing import (
    GROUP,
    Part,
    base_sums,
    group_starts,
    pack_rows,
    pack_weight,
    parts_of,
    vectors_of,
    wrapped,
)
from .int8_problem import Problem, split


def kernel(problem: Problem, machine: Machine, tile: Tile) -> Kernel:
    """Channel blocks outermost, so that their weights stay in cache; then rows; then blocks of positions."""
    return _Writer(problem, machine, tile["positions"], tile["vectors"] * machine.lanes).kernel()


class _Writer:
    """Writes one kernel."""

    def __init__(self, problem: Problem, machine: Machine, positions: int, width: int) -> None:
        self._problem = problem
        self._machine = machine
        self._positions = positions
        self._width = width
        self._flat = problem.images * problem.rows == 1
        self._blocks: dict[int, tuple[Part, ...]] = {
            size: parts_of(size, machine.lanes, quads=problem.fast is not None)
            for size, _ in split(problem.per_group, width)
        }

    def kernel(self) -> Kernel:
        problem = self._problem
        body = loop("group", problem.groups, self._group)
        rows = problem.images * problem.rows
        units = -(-problem.per_row // self._positions) if self._flat else rows
        return Kernel(body=tuple(body), constants=self._constants(), units=units)

    def _slots(self) -> int:
        """Lanes of all blocks of a group."""
        return sum(
            times * sum(vector.lanes for vector in vectors_of(self._blocks[size]))
            for size, times in split(self._problem.per_group, self._width)
        )

    def _starts(self) -> Iterable[tuple[int, tuple[Part, ...]]]:
        """First channel and parts of every block of every group, in order."""
        problem = self._problem
        for group in range(problem.groups):
            for start in range(0, problem.per_group, self._width):
                size = min(self._width, problem.per_group - start)
                yield group * problem.per_group + start, self._blocks[size]

    def _constants(self) -> dict[str, Array]:
        problem, fast = self._problem, self._problem.fast
        base = base_sums(problem.weight, problem.x_zero_point, problem.x.dtype, self._machine)
        if fast is not None:
            base = wrapped(base.astype(np.int64) + fast.bias)
        rows = {"base": base} if fast is None else {"base": base, "factor": fast.factor}
        packed = {
            name: np.concatenate([pack_rows(row, first, parts) for first, parts in self._starts()])
            for name, row in rows.items()
        }
        weight = np.concatenate([pack_weight(problem.weight, first, parts) for first, parts in self._starts()])
        given = {} if fast is not None else row_constants(problem.epilogue, 1)
        ends = {name: np.concatenate([row, np.zeros(self._machine.lanes, row.dtype)]) for name, row in given.items()}
        return {"weight": weight, **packed, **ends}

    def _group(self, group: Affine) -> Iterable[Node]:
        return tiled("k", self._problem.per_group, self._width, lambda k, size: self._rows(group, k, size))

    def _rows(self, group: Affine, k: Affine, size: int) -> list[Node]:
        problem = self._problem
        if self._flat:
            return self._flat_row(group, k, size)
        lines: list[Node] = []
        image, row = number(0), variable("r")
        if problem.images > 1:
            lines = [f"const int64_t image = (int32_t)r / {problem.rows}, row = (int32_t)r % {problem.rows};"]
            image, row = variable("image"), variable("row")
        lines += tiled(
            "p", problem.per_row, self._positions, lambda p, count: self._block(group, k, size, image, row, p, count)
        )
        return [Loop("r", "begin", "end", 1, tuple(lines))]

    def _flat_row(self, group: Affine, k: Affine, size: int) -> list[Node]:
        """One row of positions: its blocks are the units."""
        full, rest = divmod(self._problem.per_row, self._positions)
        zero = number(0)
        nodes: list[Node] = []
        if full:
            block = self._block(group, k, size, zero, zero, variable("p") * self._positions, self._positions)
            stop = f"(end < {full} ? end : {full})" if rest else "end"
            nodes.append(Loop("p", "begin", stop, 1, tuple(block)))
        if rest:
            block = self._block(group, k, size, zero, zero, number(full * self._positions), rest)
            nodes += [f"if (end > {full})", Scope(tuple(block))]
        return nodes

    def _block(
        self, group: Affine, k: Affine, size: int, image: Affine, row: Affine, p: Affine, count: int
    ) -> list[Node]:
        problem, parts = self._problem, self._blocks[size]
        vectors = vectors_of(parts)
        slot = group * self._slots() + k
        channels = int(problem.x.shape[-1]) // problem.groups
        x = group * channels + image * problem.image_step + row * problem.row_step + p * problem.step + problem.start
        lines: list[Node] = [
            f"const {self._c_type()} *const xp = x0 + {x};",
            f"const int8_t *const wp = weight + {slot * problem.depth};",
        ]
        offset = 0
        for v, vector in enumerate(vectors):
            kind = f"s32x{vector.lanes}"
            lines.append(f"const {kind} b{v} = ew_load_{kind}(base + {slot + offset});")
            lines.append(f"{kind} " + ", ".join(f"s{i}_{v} = b{v}" for i in range(count)) + ";")
            offset += vector.lanes
        lines += self._runs(count, [vector.lanes for vector in vectors], number(0), number(0), 0)
        channel = group * problem.per_group + k
        v = 0
        for part in parts:
            for i in range(count):
                lines += self._finish(part, v, i, slot, channel, image, row, p + i)
            v += len(part.vectors)
        return lines

    def _c_type(self) -> str:
        return "uint8_t" if self._problem.x.dtype == "u8" else "int8_t"

    def _runs(self, count: int, lanes: Sequence[int], x: Affine, weight: Affine, level: int) -> list[Node]:
        """Loops over runs, then over the groups of one."""
        problem = self._problem
        starts = group_starts(int(problem.weight.shape[2]))
        stride = GROUP * sum(lanes)
        if level < len(problem.runs):
            extent, step = problem.runs[level]
            inner = len(starts) * stride
            for deeper, _ in problem.runs[level + 1 :]:
                inner *= deeper
            return loop(
                f"i{level}",
                extent,
                lambda i: self._runs(count, lanes, x + i * step, weight + i * inner, level + 1),
            )
        full = sum(1 for index, start in enumerate(starts) if start == index * GROUP)
        full = 0 if problem.weight.shape[2] < GROUP else full
        nodes = loop("g", full, lambda g: self._step(count, lanes, x + g * GROUP, weight + g * stride)) if full else []
        for index in range(full, len(starts)):
            nodes.append(Scope(tuple(self._step(count, lanes, x + starts[index], weight + index * stride))))
        return nodes

    def _step(self, count: int, lanes: Sequence[int], x: Affine, weight: Affine) -> list[Node]:
        """One group of every position by one vector of every channel."""
        problem = self._problem
        length = int(problem.weight.shape[2])
        inputs: list[Node] = []
        for i in range(count):
            address = f"xp + {x + i * problem.step}"
            read = f"ew_group({address})" if length >= GROUP else f"ew_group_part({address}, {length})"
            inputs.append(f"const int32_t g{i} = {read};")
            inputs += [
                f"const ew_dot_input_x{wide} a{i}_{wide} = ew_dot_{problem.x.dtype}_x{wide}(g{i});"
                for wide in dict.fromkeys(lanes)
            ]
        offset = 0
        for v, wide in enumerate(lanes):
            inputs.append(f"const ew_dot_weight_x{wide} w{v} = ew_dot_load_x{wide}(wp + {weight + offset * GROUP});")
            inputs += [f"s{i}_{v} = ew_dot_x{wide}(s{i}_{v}, a{i}_{wide}, w{v});" for i in range(count)]
            offset += wide
        return inputs

    def _finish(
        self, part: Part, v: int, i: int, slot: Affine, channel: Affine, image: Affine, row: Affine, p: Affine
    ) -> list[Node]:
        problem, fast = self._problem, self._problem.fast
        lanes = part.vectors[0].lanes
        first = channel + part.start

        def address(tensor: Tensor) -> str:
            return str(place(tensor, image, row, p, first, problem.per_row if self._flat else 0))

        if fast is None:
            return [
                *finish(problem.epilogue, problem.y, f"s{i}_{v}", address, str(first), lanes, part.vectors[0].count)
            ]
        offset = sum(vector.lanes for vector in vectors_of(self._blocks_before(part)))
        loads = [f"ew_load_f32x{lanes}(factor + {slot + offset + index * lanes})" for index in range(len(part.vectors))]
        dtype = problem.y.dtype
        return [requantize(part, [f"s{i}_{v + q}" for q in range(len(part.vectors))], loads, dtype,
                           f"y0 + {address(problem.y)}", fast.zero_point)]  # fmt: skip

    def _blocks_before(self, part: Part) -> tuple[Part, ...]:
        """Parts of the same block that come before one."""
        parts = next(parts for parts in self._blocks.values() if any(each is part for each in parts))
        return parts[: next(index for index, each in enumerate(parts) if each is part)]


def requantize(
    part: Part, sums: Sequence[str], factors: Sequence[str], dtype: str, pointer: str, zero_point: int
) -> str:
    """A C statement that requantizes the sums of a part and stores their bytes."""
    lanes = part.vectors[0].lanes
    if part.is_quad:
        return f"ew_requantize_quad_{dtype}x{lanes}({pointer}, {', '.join([*sums, *factors])}, {zero_point});"
    value = f"ew_requantize_{dtype}x{lanes}({sums[0]}, {factors[0]}, {zero_point})"
    count = part.vectors[0].count
    if count == lanes:
        return f"ew_store_{dtype}x{lanes}({pointer}, {value});"
    return f"ew_store_part_{dtype}x{lanes}({pointer}, {value}, {count});"


def place(tensor: Tensor, image: Affine, row: Affine, p: Affine, channel: Affine, flat: int) -> Affine:
    """Where an element lies in a buffer; `flat` where all positions are one row."""
    channels = tensor.shape[-1]
    if flat and not tensor.border:
        return p * channels + channel
    strides = tensor.strides
    return image * strides[0] + row * strides[1] + p * strides[2] + channel + tensor.origin
