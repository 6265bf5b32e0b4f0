"""Which plans code gets: without guards where ONNX Runtime needs them, and with signed activations on ARM."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgewright.bundle.archive import unpack
from edgewright.bundle.golden import read_golden
from edgewright.compiler.lower.native.toolchain_choice import zig
from edgewright.compiler.pipeline import compile_model
from edgewright.compiler.request import Request

MakeRequest = Callable[..., Request]


def test_code_is_made_of_plans_without_a_guard(make_request: MakeRequest) -> None:
    engines = ("onnxruntime", "native")
    (target,) = compile_model(make_request(targets=("x86-64-avx2",), engines=engines)).targets
    rows = {row.name: row for row in target.candidates}
    assert {"int8-u8s8-guarded", "native-int8-u8s8"} <= set(rows)
    assert not {"int8-u8s8", "native-int8-u8s8-guarded"} & set(rows)
    guarded, bare = rows["int8-u8s8-guarded"].test.snr_db, rows["native-int8-u8s8"].test.snr_db
    assert guarded is not None
    assert bare is not None
    assert bare > guarded - 1.0
    assert "saturation" not in rows["native-int8-u8s8"].verdict


@pytest.mark.skipif(zig("aarch64") is None, reason="needs zig: pip install 'edgewright[native]'")
def test_signed_plans_ship_as_code_to_arm(make_request: MakeRequest, tmp_path: Path) -> None:
    (target,) = compile_model(make_request(targets=("raspberry-pi-5",), engines=("native",))).targets
    rows = {row.name: row for row in target.candidates}
    assert "native-int8-s8s8" in rows
    assert target.exit_code == 0
    for name in ("native-int8-s8s8", "native-int8-u8s8"):
        assert "saturation" not in rows[name].verdict
        assert rows[name].test.snr_db is not None
    unpack(tmp_path / "out" / "raspberry-pi-5.bundle", tmp_path / "unpacked")
    assert read_golden(tmp_path / "unpacked" / "golden.safetensors").inputs
