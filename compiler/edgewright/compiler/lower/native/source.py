"""Puts a net together as C: functions, weights, the order of calls, and the description that the ABI asks for.

`model.c` is the walk through the net and what it says of itself; `kernels_*.c` are the functions that it calls. Layers
that come out as the same function share it: weights are parameters. Weights of all batch sizes lie in one file, each
distinct array once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .description import entry_row, model_description, port_tables
from .kernel import Kernel
from .machine import Machine
from .memory import ALIGNMENT_BYTES, Arena, aligned, plan_arena
from .nest import render
from .net import Array, Dtype, Layer, Net, Tensor
from .parts import MAX_PARTS, MEETING, Call, is_divided, run_part

C_FOLDER = Path(__file__).parent / "c"
HEADERS = ("edgewright_native.h", "ew_vector.h", "ew_math.h", "ew_dot.h")
MODEL_FILE = "model.c"
KERNELS_HEADER = "kernels.h"
WEIGHTS_FILE = "weights.bin"
HIDDEN = '__attribute__((visibility("hidden")))'
FILE_CHARACTERS = 100_000
"""Of C in one file: about a second of compiler time. Files are compiled side by side; fewer would leave cores idle, and
more would read the headers of the intrinsics too often, which takes 0.15 s each time."""
C_TYPES: dict[Dtype, str] = {
    "f32": "float", "f16": "uint16_t", "u8": "uint8_t", "s8": "int8_t", "s16": "int16_t", "u16": "uint16_t",
    "s32": "int32_t", "s64": "int64_t", "bool": "uint8_t",
}  # fmt: skip
_C_OF_NUMPY = {
    "float32": "float", "float16": "uint16_t", "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t",
    "uint16": "uint16_t", "int32": "int32_t", "int64": "int64_t", "bool": "uint8_t",
}  # fmt: skip
_WEIGHTS_SECTION = f"""
/* Where the assembler finds the weights: by default in the folder in which the compiler runs. */
#ifndef EW_WEIGHTS_FILE
#define EW_WEIGHTS_FILE "{WEIGHTS_FILE}"
#endif
__asm__(".pushsection .rodata\\n.balign {ALIGNMENT_BYTES}\\n.global ew_weights\\n.hidden ew_weights\\n"
        "ew_weights:\\n.incbin \\"" EW_WEIGHTS_FILE "\\"\\n.popsection");
extern const unsigned char ew_weights[] {HIDDEN};

"""


@dataclass(frozen=True)
class Source:
    """Files that compile to a model, by name; `weights.bin` is taken in by the assembler."""

    files: Mapping[str, bytes]
    arena_bytes: int
    """Of the largest entry, however it is called."""
    max_parts: int = 1
    """Threads that can share a call of some entry; 1 where none is worth it."""


class _Weights:
    """Constants of all kernels, each distinct one once, at aligned places."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._content = bytearray()

    def place(self, array: Array) -> int:
        content = np.ascontiguousarray(array).tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._places:
            self._content += b"\0" * (-len(self._content) % ALIGNMENT_BYTES)
            self._places[key] = len(self._content)
            self._content += content
        return self._places[key]

    def file(self) -> bytes:
        return bytes(self._content) or b"\0"


class _Functions:
    """The functions of all kernels, each distinct one once, by their text."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, layer: Layer, kernel: Kernel) -> str:
        """What the function of a layer is called: its kind and a number."""
        return self._names.setdefault(_function(layer, kernel), f"ew_{type(layer).__name__.lower()}_{len(self._names)}")

    def files(self, machine: Machine) -> dict[str, str]:
        """The functions, and the header that declares them."""
        shares: list[list[str]] = [[]]
        room = FILE_CHARACTERS
        for text, name in self._names.items():
            if shares[-1] and room < len(text):
                shares.append([])
                room = FILE_CHARACTERS
            shares[-1].append(f"\nvoid {name}{text}")
            room -= len(text)
        files = {f"kernels_{index}.c": _preamble(machine) + "".join(share) for index, share in enumerate(shares)}
        heads = "".join(f"{HIDDEN} void {name}{text[: text.index(' {')]};\n" for text, name in self._names.items())
        return files | {KERNELS_HEADER: f"#include <stdint.h>\n\n{heads}"}


def make_source(
    name: str,
    nets: Mapping[int, Net],
    kernels: Mapping[int, Sequence[Kernel | None]],
    machine: Machine,
    toolchain: str,
    parts: int = 1,
) -> Source:
    """The C files of a model: one net per batch size, and for each of its layers a kernel (None for an alias).

    Args:
        name: of the model.
        nets: by batch size; the same model in each.
        kernels: for the layers of each net.
        machine: what the code may use.
        toolchain: what will compile it.
        parts: threads that may share a call; 1 for code without such calls.

    Raises:
        ValueError: more parts than there can be.
    """
    if not 1 <= parts <= MAX_PARTS:
        raise ValueError(f"a call is shared by 1 to {MAX_PARTS} threads, not {parts}")
    weights, functions = _Weights(), _Functions()
    texts = [f'#include "edgewright_native.h"\n#include "{KERNELS_HEADER}"\n', _WEIGHTS_SECTION]
    entries, arenas, divided = [], [], False
    for batch, net in sorted(nets.items()):
        arena, calls = _calls(net, kernels[batch], weights, functions)
        texts.append(_run(calls, batch))
        part_arena_bytes = 0
        if parts > 1 and any(call.divided for call in calls):
            shared, calls = _calls(net, kernels[batch], weights, functions, parts)
            texts += [run_part(calls, batch, parts)] if divided else [MEETING, run_part(calls, batch, parts)]
            part_arena_bytes, divided = ALIGNMENT_BYTES + shared.size_bytes, True
        texts += (port_tables(role, batch, ports) for role, ports in (("in", net.inputs), ("out", net.outputs)))
        entries.append(entry_row(batch, arena.size_bytes, part_arena_bytes, parts))
        arenas += [arena.size_bytes, part_arena_bytes]
    texts.append(model_description(name, next(iter(nets.values())), entries, machine, toolchain))
    written = {MODEL_FILE: "".join(texts), **functions.files(machine)}
    files = {header: (C_FOLDER / header).read_bytes() for header in HEADERS}
    files |= {file: text.encode() for file, text in written.items()} | {WEIGHTS_FILE: weights.file()}
    return Source(files, max(arenas), parts if divided else 1)


def _calls(
    net: Net, kernels: Sequence[Kernel | None], weights: _Weights, functions: _Functions, parts: int = 1
) -> tuple[Arena, list[Call]]:
    """What computes a net, in order; where several threads share a layer, each has a scratch of its own."""
    chosen = list(zip(net.layers, kernels, strict=True))
    divided = [kernel is not None and is_divided(layer, kernel) for layer, kernel in chosen]
    each = [aligned(kernel.scratch_bytes) if kernel else 0 for kernel in kernels]
    arena = plan_arena(net, tuple(size * (parts if share else 1) for size, share in zip(each, divided, strict=True)))
    return arena, [
        Call(
            comment=_comment(layer),
            name=functions.name(layer, kernel),
            arguments=", ".join(_arguments(layer, kernel, net, arena, weights)),
            units=kernel.units,
            scratch=arena.scratch[index],
            scratch_bytes=each[index],
            divided=divided[index],
        )
        for index, (layer, kernel) in enumerate(chosen)
        if kernel is not None
    ]


def _run(calls: Sequence[Call], batch: int) -> str:
    """The walk through a net."""
    return f"""static void run_{batch}(const void *const *in, void *const *out, void *arena) {{
    char *const a = arena;
    (void)a;
    (void)in;
    (void)out;
{"".join(call.whole() for call in calls)}}}

"""


def _preamble(machine: Machine) -> str:
    return f"""#define EW_MAX_LANES {machine.lanes}
#include "{KERNELS_HEADER}"
#include "ew_math.h"
#include "ew_dot.h"
"""


def parameters(layer: Layer, kernel: Kernel) -> list[str]:
    """Of a kernel's function, in order, without `begin` and `end`."""
    found = [f"const {C_TYPES[tensor.dtype]} *restrict x{i}" for i, tensor in enumerate(layer.inputs)]
    found += [f"{C_TYPES[tensor.dtype]} *restrict y{i}" for i, tensor in enumerate(layer.outputs)]
    found += [f"const {_C_OF_NUMPY[array.dtype.name]} *restrict {name}" for name, array in kernel.constants.items()]
    return [*found, "char *restrict scratch"] if kernel.scratch_bytes else found


def _function(layer: Layer, kernel: Kernel) -> str:
    head = ", ".join(["int64_t begin", "int64_t end", *parameters(layer, kernel)])
    return f"({head}) {{\n    (void)begin;\n    (void)end;\n{render(kernel.body)}}}\n"


def _arguments(layer: Layer, kernel: Kernel, net: Net, arena: Arena, weights: _Weights) -> list[str]:
    found = [f"(const {C_TYPES[tensor.dtype]} *)({_address(tensor, net, arena)})" for tensor in layer.inputs]
    found += [f"({C_TYPES[tensor.dtype]} *)({_address(tensor, net, arena)})" for tensor in layer.outputs]
    for array in kernel.constants.values():
        found.append(f"(const {_C_OF_NUMPY[array.dtype.name]} *)(ew_weights + {weights.place(array)})")
    return found


def _address(tensor: Tensor, net: Net, arena: Arena) -> str:
    name = arena.stands_for.get(tensor.name, tensor.name)
    for role, ports in (("in", net.inputs), ("out", net.outputs)):
        for index, port in enumerate(ports):
            if port.name == name:
                return f"{role}[{index}]"
    return f"a + {arena.offsets[name]}"


def _comment(layer: Layer) -> str:
    words = "".join(letter if letter.isalnum() or letter in " _./:+-" else "_" for letter in layer.origin[:200])
    shapes = [f"{tensor.dtype} {'x'.join(map(str, tensor.shape))}" for tensor in (*layer.inputs, *layer.outputs)]
    return f"{type(layer).__name__} {words}: {', '.join(shapes)}"
