"""The self-test of a bundle for an NPU: what TFLite's reference kernels give passes, and the NPU gives the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.lower.golden import golden_samples, passes
from edgewright.compiler.lower.onnxruntime import Arithmetic
from edgewright.compiler.pipeline import prepare
from edgewright.compiler.portfolio import portfolio
from edgewright.compiler.report.progress import SilentStages
from edgewright.compiler.request import Request, load_boards
from edgewright.compiler.scratch import Scratch
from edgewright.compiler.trial import try_variant
from edgewright.compiler.variants import evaluate
from tests.compiler.zoo.catalog import ZOO, pictures

pytest.importorskip("ethosu.vela")
pytestmark = pytest.mark.slow

MakeRequest = Callable[..., Request]


@pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2"])
def test_the_reference_kernels_pass_the_self_test(
    name: str, make_request: MakeRequest, tmp_path: Path, scratch: Scratch
) -> None:
    """Their MEAN rounds twice, and these nets make much of single steps."""
    np.savez(tmp_path / "pictures.npz", x=pictures(ZOO[name].small, 40))
    model = f"tests.compiler.zoo.catalog:small_{name}"
    request = make_request(
        model=model, data=tmp_path / "pictures.npz", targets=("ethos-u55-128",), engines=None, max_drop=None
    )
    (board,) = load_boards(request.targets)
    _, build = prepare(request, (board,), SilentStages(), scratch)
    variants = portfolio(board, build).variants
    assert variants
    samples = golden_samples(build.data.tune, None)
    for variant in variants:
        golden = try_variant(variant, variants, board, build).golden
        assert passes(golden, evaluate(variant.model, samples, Arithmetic.EXACT, 1)), variant.name
