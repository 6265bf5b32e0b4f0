"""plan.toml: a plan that people read, compare and edit. One line per figure, sorted, so that a diff shows what changed.

Documented in docs/formats/plan.md. Reading is strict: unknown keys, wrong types, scales that are not positive, names
that the model does not have and figures that do not fit its shapes are refused with their place in the file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..data_warning import DataWarning
from ..faults import PlanError
from ..graph import Graph, graph_digest
from .plan import FORMAT_VERSION, INTEGER_RANGES, Compute, Encoding, Operator, Plan
from .rules.lookup import rules_of
from .uncalibrated.tables import stored_weight
from .weights import channel_axis, input_channels

MAX_FILE_BYTES = 64 << 20
MAX_MARKS = 500_000
"""Of `=`, `[` and `{`, the signs that open tables, arrays and pairs: 25 000 nodes. Numbers are cheap to read, but each
table takes a kilobyte."""
MAX_KEY_PARTS = 8
STRING = re.compile(rb"""'[^'\r\n]*+'|"(?:[^"\\\r\n]|\\[^\r\n])*+\"""")
PART = rb"""(?:[\w-]++|"")"""
LONG_KEY = re.compile(rb"""(?<![\w"-])%b(?:[ \t]*+\.[ \t]*+%b){%d}""" % (PART, PART, MAX_KEY_PARTS))
MAX_REASON_CHARACTERS = 500
NUMBERS_PER_LINE = 8

HEADER = """\
# A quantization plan. Edit it and give it back with --plan: `compute` of an operator may become "float", numbers of a
# tensor may be changed (write calibrator = "given"), whole entries may be taken out. docs/formats/plan.md explains all.
"""


def write_plan(plan: Plan) -> str:
    """The text of plan.toml."""
    return HEADER + "\n".join(_lines(plan)) + "\n"


def _lines(plan: Plan) -> Iterator[str]:
    yield f"format_version = {plan.format_version}"
    yield f"model_digest = {_text(plan.model_digest)}"
    yield "\n[scheme]"
    yield from _fields(msgspec.structs.asdict(plan.scheme))
    for equalization in plan.equalizations:
        yield "\n[[equalizations]]"
        yield from _fields(msgspec.structs.asdict(equalization))
    for name, operator in plan.operators.items():
        yield f"\n[operators.{_text(name)}]"
        fields = msgspec.structs.asdict(operator)
        weight = fields.pop("weight")
        yield from _fields({key: value for key, value in fields.items() if value not in ("", ())})
        if weight is not None:
            yield from _fields(msgspec.structs.asdict(weight), prefix="weight.")
    for name, encoding in plan.tensors.items():
        yield f"\n[tensors.{_text(name)}]"
        yield from _fields({key: value for key, value in msgspec.structs.asdict(encoding).items() if value != ""})


def _fields(fields: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in fields.items():
        if value not in (None, ()):
            yield f"{prefix}{key} = {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return _array([_value(item) for item in value])
    return _number(value) if isinstance(value, float) else _text(value) if isinstance(value, str) else str(value)


def _array(items: list[str]) -> str:
    if len(items) <= NUMBERS_PER_LINE:
        return f"[{', '.join(items)}]"
    rows = [items[start : start + NUMBERS_PER_LINE] for start in range(0, len(items), NUMBERS_PER_LINE)]
    return "[\n" + "".join(f"  {', '.join(row)},\n" for row in rows) + "]"


def _number(value: float) -> str:
    """The shortest text that reads back as the same float32, which is what a model can hold."""
    text = str(np.float32(value))
    return text if any(mark in text for mark in ".e") else f"{text}.0"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in escaped) + '"'


def read_plan(path: Path) -> Plan:
    """Reads a plan; whether it fits a model is `check_plan`'s question.

    Raises:
        PlanError: unreadable, too large, not TOML, or not a plan; the message has the place in the file.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PlanError(f"--plan {path}: cannot be read: {error.strerror}") from error
    if len(content) > MAX_FILE_BYTES:
        raise PlanError(f"--plan {path}: larger than {MAX_FILE_BYTES} bytes")
    return parse_plan(content, f"--plan {path}")


def parse_plan(content: bytes, where: str) -> Plan:
    """The plan in some text; `where` stands before every complaint."""
    _check_cost(content, where)
    try:
        fields = _single_precision(tomllib.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:  # a number of 5 000 digits is a plain ValueError
        raise PlanError(f"{where}: not a TOML file: {str(error)[:MAX_REASON_CHARACTERS]}") from error
    try:
        plan = msgspec.convert(fields, Plan)
    except msgspec.ValidationError as error:
        raise PlanError(f"{where}: {_named(fields, error)[:MAX_REASON_CHARACTERS]}") from error
    if plan.format_version != FORMAT_VERSION:
        given = str(plan.format_version)[:20]
        raise PlanError(f"{where}: format version {given}, expected {FORMAT_VERSION}")
    for name, encoding in plan.tensors.items():
        least, greatest = INTEGER_RANGES[encoding.type]
        if not least <= encoding.zero_point <= greatest:
            raise PlanError(
                f"{where}: tensor {name!r}: zero_point {encoding.zero_point} does not fit {encoding.type} "
                f"({least} to {greatest})"
            )
    return plan


def _named(fields: dict[str, Any], error: msgspec.ValidationError) -> str:
    """The complaint, with the entry that it is about: the library tells its place as `$.operators[...]`."""
    for section, kind in (("operators", Operator), ("tensors", Encoding)):
        entries = fields.get(section)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            try:
                msgspec.convert(entry, kind)
            except msgspec.ValidationError as own:
                return f"{section}.{name!r}: {own}{_choices(own)}"
    return str(error)


def _choices(error: msgspec.ValidationError) -> str:
    return f"; expected one of {', '.join(get_args(Compute))}" if "`$.compute`" in str(error) else ""


def _check_cost(content: bytes, where: str) -> None:
    """The parser takes memory with the square of a key's parts, and a kilobyte for each: a small file could take all.

    Raises:
        PlanError: no plan looks like this.
    """
    if b'"""' in content or b"'''" in content:
        raise PlanError(f"{where}: a string of several lines, which has no place in a plan")
    outside = STRING.sub(b'""', content)
    marks = sum(outside.count(mark) for mark in (b"=", b"[", b"{"))
    if marks > MAX_MARKS:
        raise PlanError(f"{where}: {marks} entries; at most {MAX_MARKS} are read")
    found = LONG_KEY.search(outside)
    if found is not None:
        line = outside.count(b"\n", 0, found.start()) + 1
        raise PlanError(f"{where}: line {line}: a key of more than {MAX_KEY_PARTS} parts; put names in quotes")


def _single_precision(fields: Any) -> Any:
    """The same with every number as float32 holds it; beyond its range they become infinite, and are refused."""
    if isinstance(fields, dict):
        return {key: _single_precision(value) for key, value in fields.items()}
    if isinstance(fields, list) and all(type(value) is float for value in fields):  # millions of scales, at once
        with np.errstate(over="ignore"):
            return np.asarray(fields, np.float32).astype(np.float64).tolist()
    if isinstance(fields, list):
        return [_single_precision(value) for value in fields]
    with np.errstate(over="ignore"):
        return float(np.float32(fields)) if isinstance(fields, float) else fields


def check_plan(plan: Plan, graph: Graph, where: str) -> None:
    """Raises PlanError where the plan does not fit the optimised float graph, or asks what its executor cannot do."""
    if plan.scheme.rules == "tflite" and plan.scheme.activations not in {"int8", "int16"}:
        given = plan.scheme.activations
        raise PlanError(f"{where}: scheme: rules = 'tflite' with activations = {given!r}; TFLite has int8 and int16")
    nodes = {node.name: node for node in graph.graph if node.name}
    values = {value.name for value in _values(graph)}
    for name in plan.tensors:
        if name not in values:
            raise PlanError(f"{where}: tensor {name!r} is not in the model; {_origin(plan, graph)}")
    for name, operator in plan.operators.items():
        if name not in nodes:
            raise PlanError(f"{where}: operator {name!r} is not in the model; {_origin(plan, graph)}")
        _check_operator(name, operator, nodes[name], plan, where)
    for equalization in plan.equalizations:
        for name in (equalization.producer, *equalization.consumers):
            if name not in nodes:
                raise PlanError(f"{where}: equalization of {name!r}, which is not in the model; {_origin(plan, graph)}")
    for complaint in rules_of(plan.scheme).complaints(plan, graph):
        if complaint.refused:
            raise PlanError(f"{where}: {complaint.text}; {complaint.fix}")


def plan_warnings(plan: Plan, graph: Graph, where: str) -> tuple[DataWarning, ...]:
    """What is allowed, but seldom meant: names that fit by chance, old ranges, numbers that cost an executor more."""
    found = tuple(
        DataWarning(code="plan-against-rules", text=f"{where}: {complaint.text}", fix=complaint.fix)
        for complaint in rules_of(plan.scheme).complaints(plan, graph)
    )
    if plan.model_digest == graph_digest(graph):
        return found
    text = f"{where}: the plan was made for another model, or for other weights of this one; all its names fit"
    fix = "make a new one without --plan, unless its ranges are what you want here"
    return (DataWarning(code="plan-of-another-model", text=text, fix=fix), *found)


def _check_operator(name: str, operator: Operator, node: ir.Node, plan: Plan, where: str) -> None:
    if operator.compute == "float":
        return
    weight = stored_weight(node)
    if operator.weight is not None:
        if weight is None:
            raise PlanError(f"{where}: operator {name!r} has a weight in the plan, but none in the model")
        axis, scales = operator.weight.axis, len(operator.weight.scale)
        channels = 1 if axis is None else weight.shape[axis] if -weight.ndim <= axis < weight.ndim else 0
        block_size = operator.weight.block_size
        if block_size is not None and channels:
            channels *= -(-weight.size // channels // block_size)
        if scales != channels:
            raise PlanError(f"{where}: operator {name!r}: {scales} weight scales, expected {channels} for axis {axis}")
        peaks = len(operator.weight.pair_peaks)
        inputs = input_channels(node, weight) if peaks else 0
        if peaks and (axis is None or peaks != inputs):
            raise PlanError(
                f"{where}: operator {name!r}: {peaks} pair_peaks with axis {axis}, expected {inputs}, one per input "
                "channel, and an axis; or take them out"
            )
    if operator.compute in {"int8", "int16"}:
        rules = rules_of(plan.scheme)
        if not rules.has_integer_kernel(node):
            raise PlanError(f"{where}: operator {name!r} ({node.op_type}) has no int8 form; write compute = 'float'")
        if weight is not None and weight.ndim > 1 and rules.is_product(node):
            _check_channels(name, operator, node, weight, where)
        source = node.inputs[0]
        if rules.is_product(node) and (source is None or source.name not in plan.tensors):
            raise PlanError(
                f"{where}: operator {name!r} is {operator.compute}, but its input "
                f"{None if source is None else source.name!r} has no entry under [tensors]"
            )


def _check_channels(name: str, operator: Operator, node: ir.Node, weight: NDArray[Any], where: str) -> None:
    """Integer kernels know scales and shifts of output channels only."""
    expected = channel_axis(node) % weight.ndim
    axis = None if operator.weight is None else operator.weight.axis
    if axis is not None and axis % weight.ndim != expected:
        raise PlanError(
            f"{where}: operator {name!r}: scales along axis {axis}, but {operator.compute} takes one for each output "
            f"channel: axis {expected}, or none for a single scale"
        )
    shifts = len(operator.bias_correction)
    if shifts and node.op_type != "ConvTranspose" and shifts != weight.shape[expected]:
        raise PlanError(
            f"{where}: operator {name!r}: {shifts} numbers in bias_correction, expected {weight.shape[expected]}; or "
            "take it out"
        )


def _values(graph: Graph) -> Iterator[ir.Value]:
    yield from graph.graph.inputs
    yield from graph.graph.initializers.values()
    for node in graph.graph:
        yield from node.outputs


def _origin(plan: Plan, graph: Graph) -> str:
    if plan.model_digest == graph_digest(graph):
        return "take the entry out, or correct its name"
    return "the plan was made for another model (or another version of it): make a new one without --plan"
