"""The guide's list of operators is that of the code."""

from __future__ import annotations

import re

from edgewright.compiler.lower.native.lowering.operators import OPERATORS
from tests.layering import ROOT

GUIDE = ROOT / "docs/guides/native.md"


def listed(domain: str) -> str:
    return ", ".join(f"`{name}`" for where, name in sorted(OPERATORS) if where == domain)


def test_the_guide_lists_every_operator_that_has_a_native_form() -> None:
    found = re.search(r"<!-- operators: .*? -->\n(.*?)<!-- end -->", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    paragraphs = [" ".join(paragraph.split()) for paragraph in found[1].strip().split("\n\n")]
    assert paragraphs == [f"ONNX: {listed('')}.", f"com.microsoft: {listed('com.microsoft')}."]
    ours = {"edgewright"}  # made while lowering; no file has them
    assert {domain for domain, _ in OPERATORS} - ours == {"", "com.microsoft"}, "a domain that the guide does not have"
