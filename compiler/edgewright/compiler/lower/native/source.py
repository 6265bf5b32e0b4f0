"""Puts a net together as C: functions, weights, the order of calls, and the description that the ABI asks for.

Layers that come out as the same function share it: weights are parameters. Weights of all batch sizes lie in one file,
each distinct array once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .kernel import Kernel
from .machine import Machine
from .memory import ALIGNMENT_BYTES, Arena, plan_arena
from .nest import render
from .net import Array, Dtype, Layer, Net, Tensor

C_FOLDER = Path(__file__).parent / "c"
HEADERS = ("edgewright_native.h", "ew_vector.h", "ew_math.h", "ew_dot.h")
WEIGHTS_FILE = "weights.bin"
HIDDEN = '__attribute__((visibility("hidden")))'
FILE_CHARACTERS = 100_000
"""Of C in one file: about a second of compiler time, before files share the processor's cores."""
C_TYPES: dict[Dtype, str] = {
    "f32": "float", "f16": "uint16_t", "u8": "uint8_t", "s8": "int8_t", "s16": "int16_t", "u16": "uint16_t",
    "s32": "int32_t", "s64": "int64_t", "bool": "uint8_t",
}  # fmt: skip
_C_OF_NUMPY = {
    "float32": "float", "float16": "uint16_t", "uint8": "uint8_t", "int8": "int8_t", "int16": "int16_t",
    "uint16": "uint16_t", "int32": "int32_t", "int64": "int64_t", "bool": "uint8_t",
}  # fmt: skip
WEIGHTS_SECTION = f"""#include "edgewright_native.h"

/* Where the assembler finds the weights: by default in the folder in which the compiler runs. */
#ifndef EW_WEIGHTS_FILE
#define EW_WEIGHTS_FILE "{WEIGHTS_FILE}"
#endif
__asm__(".pushsection .rodata\\n.balign {ALIGNMENT_BYTES}\\n.global ew_weights\\n.hidden ew_weights\\n"
        "ew_weights:\\n.incbin \\"" EW_WEIGHTS_FILE "\\"\\n.popsection");

"""
V2_DATATYPES: dict[Dtype, str] = {
    "f32": "FP32", "f16": "FP16", "u8": "UINT8", "s8": "INT8", "s16": "INT16", "u16": "UINT16", "s32": "INT32",
    "s64": "INT64", "bool": "BOOL",
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Files that compile to a model, by name; `weights.bin` is taken in by the assembler."""

    files: Mapping[str, bytes]
    arena_bytes: int
    """Of the largest entry."""


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


def make_source(
    name: str, nets: Mapping[int, Net], kernels: Mapping[int, Sequence[Kernel | None]], machine: Machine, toolchain: str
) -> Source:
    """The C files of a model: one net per batch size, and for each of its layers a kernel (None for an alias)."""
    weights = _Weights()
    arenas = {
        batch: plan_arena(net, tuple(kernel.scratch_bytes if kernel else 0 for kernel in kernels[batch]))
        for batch, net in nets.items()
    }
    files = {header: (C_FOLDER / header).read_bytes() for header in HEADERS}
    for batch, net in nets.items():
        for file, text in net_files(net, kernels[batch], arenas[batch], weights, machine, batch).items():
            files[file] = text.encode()
    files["model.c"] = model_file(name, nets, arenas, machine, toolchain).encode()
    files[WEIGHTS_FILE] = weights.file()
    return Source(files, max(arena.size_bytes for arena in arenas.values()))


def net_files(
    net: Net, kernels: Sequence[Kernel | None], arena: Arena, weights: _Weights, machine: Machine, batch: int
) -> dict[str, str]:
    """The functions of a net, and its `run`: one file, or several that compile side by side."""
    functions: dict[str, str] = {}
    calls = []
    for index, (layer, kernel) in enumerate(zip(net.layers, kernels, strict=True)):
        if kernel is None:
            continue
        text = _function(layer, kernel)
        name = functions.setdefault(text, f"ew_{batch}_{type(layer).__name__.lower()}_{len(functions)}")
        arguments = _arguments(layer, kernel, net, arena, weights, index)
        calls.append(f"    {name}(0, {kernel.units}, {', '.join(arguments)}); /* {_comment(layer)} */\n")
    first, *others = _shares([(name, text) for text, name in functions.items()])
    files = {
        f"net_{batch}_{index}.c": preamble(machine) + "".join(f"\n{HIDDEN} void {name}{text}" for name, text in share)
        for index, share in enumerate(others, 1)
    }
    known = "".join(f"{HIDDEN} void {name}{_head(text)};\n" for share in others for name, text in share)
    bodies = "".join(f"static __attribute__((noinline)) void {name}{text}\n" for name, text in first)
    files[f"net_{batch}.c"] = f"""{preamble(machine)}
extern const unsigned char ew_weights[] {HIDDEN};
{known}
{bodies}
{HIDDEN} void ew_run_{batch}(const void *const *in, void *const *out, void *arena) {{
    char *const a = arena;
    (void)a;
    (void)in;
    (void)out;
{"".join(calls)}}}
"""
    return files


def _shares(functions: Sequence[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Functions by the file they go to, in order; the same on every machine."""
    shares: list[list[tuple[str, str]]] = [[]]
    room = FILE_CHARACTERS
    for function in functions:
        if shares[-1] and room < len(function[1]):
            shares.append([])
            room = FILE_CHARACTERS
        shares[-1].append(function)
        room -= len(function[1])
    return shares


def _head(function: str) -> str:
    return function[: function.index(" {")]


def preamble(machine: Machine) -> str:
    """What every file of kernels begins with."""
    return f"""#define EW_MAX_LANES {machine.lanes}
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


def _arguments(layer: Layer, kernel: Kernel, net: Net, arena: Arena, weights: _Weights, index: int) -> list[str]:
    found = [f"(const {C_TYPES[tensor.dtype]} *)({_address(tensor, net, arena)})" for tensor in layer.inputs]
    found += [f"({C_TYPES[tensor.dtype]} *)({_address(tensor, net, arena)})" for tensor in layer.outputs]
    for array in kernel.constants.values():
        found.append(f"(const {_C_OF_NUMPY[array.dtype.name]} *)(ew_weights + {weights.place(array)})")
    return [*found, f"a + {arena.scratch[index]}"] if kernel.scratch_bytes else found


def _address(tensor: Tensor, net: Net, arena: Arena) -> str:
    name = arena.stands_for.get(tensor.name, tensor.name)
    for role, ports in (("in", net.inputs), ("out", net.outputs)):
        for index, port in enumerate(ports):
            if port.name == name:
                return f"{role}[{index}]"
    return f"a + {arena.offsets[name]}"


def _comment(layer: Layer) -> str:
    words = "".join(letter if letter.isalnum() or letter in " _./:+-" else "_" for letter in layer.origin[:200])
    return f"{type(layer).__name__}: {words.replace('*/', '')}"


def model_file(
    name: str, nets: Mapping[int, Net], arenas: Mapping[int, Arena], machine: Machine, toolchain: str
) -> str:
    """The description of a model, and its weights."""
    parts = [WEIGHTS_SECTION]
    entries = []
    for batch, net in sorted(nets.items()):
        for role, ports in (("in", net.inputs), ("out", net.outputs)):
            parts += _port_tables(f"{role}_{batch}", ports)
        parts.append(f"{HIDDEN} void ew_run_{batch}(const void *const *in, void *const *out, void *arena);\n\n")
        size = arenas[batch].size_bytes
        entries.append(
            f"    {{{batch}, {ALIGNMENT_BYTES}, {size}, in_{batch}, out_{batch}, ew_run_{batch}, 0, 0, 0, 0}},\n"
        )
    first = next(iter(nets.values()))
    parts.append(f"static const edgewright_entry entries[] = {{\n{''.join(entries)}}};\n\n")
    parts.append(
        "static const edgewright_model model = {\n"
        f"    EDGEWRIGHT_NATIVE_ABI, {len(first.inputs)}, {len(first.outputs)}, {len(nets)},\n"
        f"    {c_string(name)}, {c_string(' '.join(machine.isa))}, {c_string(toolchain)}, entries,\n"
        "    {0, 0, 0, 0},\n"
        "};\n\n"
        '__attribute__((visibility("default"))) const edgewright_model *edgewright_describe(void) { return &model; }\n'
    )
    return "".join(parts)


def _port_tables(name: str, ports: Sequence[Tensor]) -> list[str]:
    shapes = [
        f"static const int64_t {name}_shape_{index}[] = {{{', '.join(map(str, port.buffer_shape)) or '0'}}};\n"
        for index, port in enumerate(ports)
    ]
    rows = [
        f'    {{{c_string(port.name)}, "{V2_DATATYPES[port.dtype]}", {len(port.buffer_shape)}, 0, '
        f"{name}_shape_{index}, {port.size_bytes}}},\n"
        for index, port in enumerate(ports)
    ]
    return [*shapes, f"static const edgewright_tensor {name}[] = {{\n{''.join(rows)}}};\n"]


def c_string(text: str) -> str:
    """Any text as a C string literal, in octal where it is not plain."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
