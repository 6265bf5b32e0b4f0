"""docs/formats/bundle.md says what the code does: tables, limits, the example header, the error classes."""

import inspect
import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from edgewright.bundle import (
    calibrate,
    contents,
    errors,
    golden_header,
    manifest,
    manifest_json,
    paths,
    steps,
    tensor_spec,
)
from edgewright.bundle import reference as reference_module
from edgewright.bundle.stream import DEFAULT_LIMITS
from edgewright.bundle.tensorfile import ITEM_BYTES, MAX_HEADER_BYTES
from edgewright.bundle.ustar import MAX_ENTRY_BYTES, encode_header

DOC = (Path(__file__).parents[2] / "docs" / "formats" / "bundle.md").read_text()

STRUCTS = [
    kind
    for module in (tensor_spec, manifest, steps, reference_module)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_fields__
    if kind.__module__ == module.__name__
]


def section(title: str) -> str:
    return re.split(r"\n#+ ", re.split(rf"\n####? {title}\n", DOC)[1])[0]


def first_column(text: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


def hexdump(data: bytes) -> str:
    lines = [(start, data[start : start + 16]) for start in range(0, len(data), 16)]
    return "\n".join(
        f"{start:03x}  {part.hex(' ', 1)}  {''.join(chr(byte) if 32 <= byte < 127 else '.' for byte in part)}"
        for start, part in lines
        if any(part)
    )


@pytest.mark.parametrize("struct", STRUCTS, ids=lambda struct: struct.__name__)
def test_every_key_is_described_in_order(struct: type[msgspec.Struct]) -> None:
    others = get_args(reference_module.Statistic) if struct is reference_module.Source else ()
    described = [key for key in first_column(section(struct.__name__)) if key not in others]
    assert described == list(struct.__struct_fields__)


def test_statistics() -> None:
    known = get_args(reference_module.Statistic)
    assert [key for key in first_column(section("Source")) if key in known] == list(known)


def test_the_example_header() -> None:
    block = DOC.split("```hexdump\n")[1].split("\n```")[0]
    assert block == hexdump(encode_header("model/model.onnx", 16))


def test_limits() -> None:
    assert (DEFAULT_LIMITS.archive_bytes, DEFAULT_LIMITS.manifest_bytes) == (8 << 30, 1 << 20)
    assert DEFAULT_LIMITS.entries == manifest_json.MAX_ENTRIES == 256
    assert MAX_ENTRY_BYTES == (8 << 30) - 1
    assert (golden_header.MAX_GOLDEN_BYTES, MAX_HEADER_BYTES) == (64 << 20, 64 << 10)
    assert (reference_module.MAX_REFERENCE_BYTES, contents.MAX_SBOM_BYTES) == (1 << 20, 4 << 20)
    for text in (
        f"at most {paths.MAX_PATH_BYTES} characters in at most {paths.MAX_DEPTH} parts",
        f"nesting beyond {manifest_json.MAX_DEPTH} levels",
        f"At most {reference_module.MAX_HISTOGRAMS} histograms with {reference_module.MAX_CELLS:,} counts".replace(
            ",", " "
        ),
        f"at most {calibrate.MAX_COLUMNS} columns",
        f"at most {calibrate.MAX_CHANNELS} channels",
        f"about {calibrate.SAMPLED_VALUES} values",
        f"at most {calibrate.MAX_CLASSES})",
        "`" + " ".join(ITEM_BYTES) + "`",
        " ".join(str(edge) for edge in calibrate.CONFIDENCE_EDGES),
    ):
        assert text in " ".join(DOC.split()), text


def test_every_error_is_listed() -> None:
    table = DOC.split("## 7. Errors")[1]
    kinds = [
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and kind.__module__ == errors.__name__ and name != "BundleError"
    ]
    assert first_column(table) == kinds
