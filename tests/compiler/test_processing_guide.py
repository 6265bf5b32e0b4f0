"""docs/guides/processing.md: its files are processing files, and its commands run."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.bundle.processing.chain import Chain
from edgewright.bundle.steps import Step
from edgewright.bundle.tensor_spec import TensorSpec
from edgewright.compiler.processing import Declared
from tests.layering import ROOT
from tests.test_docs import commands, shell

GUIDE = ROOT / "docs/guides/processing.md"
BLOCKS = re.findall(r"^```toml\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
DIGITS, SOUND, BOXES = BLOCKS


def steps(block: str) -> Declared:
    return msgspec.toml.decode(block, type=Declared)


def spec(name: str, datatype: str, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=(-1, *shape))  # type: ignore[arg-type]


def shapes(given: tuple[Step, ...], *specs: TensorSpec) -> dict[str, tuple[int, ...]]:
    return {found.name: found.shape for found in Chain(given, specs, "guide").result}


def test_its_steps_fit_the_models_that_it_speaks_of() -> None:
    digits = steps(DIGITS)
    assert shapes(digits.before, spec("picture", "UINT8", 16, 16, 1)) == {"x": (-1, 1, 8, 8)}
    assert shapes(digits.after, spec("scores", "FP32", 10)).keys() == {"probabilities", "digits", "labels"}
    assert shapes(steps(SOUND).before, spec("audio", "INT16", 16000)) == {"input_1": (-1, 49, 10, 1)}
    boxes = spec("boxes", "FP32", 1917, 4), spec("class_scores", "FP32", 1917, 91)
    assert shapes(steps(BOXES).after, *boxes)["detection_boxes"] == (-1, 50, 4)


def test_every_step_of_the_format_is_in_it() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    for kind in msgspec.inspect.type_info(tuple[Step, ...]).item_type.types:  # type: ignore[attr-defined]
        assert f"`{kind.tag}`" in text


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_its_commands_run(tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text(DIGITS)
    lines = ["set -eu", "python -m examples.first_model", *commands(GUIDE)]
    run = shell(lines, tmp_path, {"XDG_CACHE_HOME": str(tmp_path)})
    assert run.returncode == 0, run.stdout + run.stderr
    with np.load(tmp_path / "answers.npz") as answers, np.load(tmp_path / "data.npz") as data:
        assert (answers["digits"][:, 0] == data["y"]).mean() > 0.9
