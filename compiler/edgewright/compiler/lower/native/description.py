"""What a compiled model says of itself: the constant tables of the ABI (c/edgewright_native.h)."""

from __future__ import annotations

from collections.abc import Sequence

from .machine import Machine
from .memory import ALIGNMENT_BYTES
from .net import Dtype, Net, Tensor

V2_DATATYPES: dict[Dtype, str] = {
    "f32": "FP32", "f16": "FP16", "u8": "UINT8", "s8": "INT8", "s16": "INT16", "u16": "UINT16", "s32": "INT32",
    "s64": "INT64", "bool": "BOOL",
}  # fmt: skip


def port_tables(role: str, batch: int, ports: Sequence[Tensor]) -> str:
    """Names, types and shapes of the inputs (`in`) or outputs (`out`) of an entry."""
    name = f"{role}_{batch}"
    shapes = [
        f"static const int64_t {name}_shape_{index}[] = {{{', '.join(map(str, port.buffer_shape)) or '0'}}};\n"
        for index, port in enumerate(ports)
    ]
    rows = [
        f'    {{{c_string(port.name)}, "{V2_DATATYPES[port.dtype]}", {len(port.buffer_shape)}, 0, '
        f"{name}_shape_{index}, {port.size_bytes}}},\n"
        for index, port in enumerate(ports)
    ]
    return f"{''.join(shapes)}static const edgewright_tensor {name}[] = {{\n{''.join(rows)}}};\n\n"


def entry_row(batch: int, arena_bytes: int, part_arena_bytes: int, parts: int) -> str:
    """One batch size; it has a call in parts where that has an arena."""
    shared = f"run_part_{batch}, {part_arena_bytes}, {parts}, 0" if part_arena_bytes else "0, 0, 0, 0"
    return f"    {{{batch}, {ALIGNMENT_BYTES}, {arena_bytes}, in_{batch}, out_{batch}, run_{batch}, {shared}}},\n"


def model_description(name: str, net: Net, entries: Sequence[str], machine: Machine, toolchain: str) -> str:
    """The table of everything, and the one function that the outside sees."""
    return f"""static const edgewright_entry entries[] = {{
{"".join(entries)}}};

static const edgewright_model model = {{
    EDGEWRIGHT_NATIVE_ABI,
    {len(net.inputs)}, {len(net.outputs)}, {len(entries)},
    {c_string(name)},
    {c_string(" ".join(machine.isa))},
    {c_string(toolchain)},
    entries,
    {{0, 0, 0, 0}},
}};

__attribute__((visibility("default"))) const edgewright_model *edgewright_describe(void) {{ return &model; }}
"""


def c_string(text: str) -> str:
    """Any text as a C string literal, in octal where it is not plain."""
    plain = set(range(32, 127)) - set(b'"\\?')
    return '"' + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + '"'
