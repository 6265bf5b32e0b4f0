"""PyTorch in: by name, with safetensors, with a free batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from edgewright.compiler.faults import ModelError
from edgewright.compiler.frontends.torch import load_torch
from edgewright.compiler.graph import signature, to_bytes
from edgewright.compiler.lower.onnxruntime import Arithmetic, open_session, run

SAMPLES = {"x": np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)}

CODE = """
import warnings

import torch

def build():
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )

def not_a_module():
    return 7

def raising():
    raise OSError("no such disk")

class Branching(torch.nn.Module):
    def forward(self, x):
        return x + 1 if x.sum().item() > 0 else x - 1

def branching():
    return Branching()

class Recurrent(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(4, 3, batch_first=True)

    def forward(self, seq):
        warnings.warn("from the user's module")
        return self.lstm(seq)[0][:, -1]

def recurrent():
    return Recurrent()
"""


TOO_LARGE = """
class Large(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Parameter(torch.empty(600_000, 1000, device="meta"))

    def forward(self, x):
        return x @ self.table

def large():
    return Large()
"""
CODE += TOO_LARGE


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    name = f"nets_{tmp_path.name}".replace("-", "_").replace("[", "_").replace("]", "_")
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_module_and_weights_become_a_graph_with_a_free_batch(package: str, tmp_path: Path) -> None:
    module = __import__(package).build()
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    source = load_torch(f"{package}:build", tmp_path / "w.safetensors", SAMPLES)
    assert [port.shape for port in signature(source.graph).inputs] == [(-1, 1, 8, 8)]
    x = np.random.default_rng(1).normal(size=(5, 1, 8, 8)).astype(np.float32)
    (name,) = (port.name for port in signature(source.graph).inputs)
    found = next(iter(run(open_session(to_bytes(source.graph), Arithmetic.ENGINE), {name: x}).values()))
    np.testing.assert_allclose(found, module.eval()(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
    again = load_torch(f"{package}:build", tmp_path / "w.safetensors", SAMPLES)
    assert again.digest == source.digest
    assert str(tmp_path).encode() not in to_bytes(source.graph)


@pytest.mark.parametrize(
    ("attribute", "words"),
    [
        ("missing", "missing"),
        ("not_a_module", "returned int"),
        ("raising", "raised OSError: no such disk"),
        ("branching", "cannot be exported"),
    ],
)
def test_what_is_no_exportable_module_is_refused(package: str, attribute: str, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        load_torch(f"{package}:{attribute}", None, SAMPLES)


def test_pickles_and_other_weights_are_refused(package: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"safetensors\.torch\.save_file"):
        load_torch(f"{package}:build", tmp_path / "w.pth", SAMPLES)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="not a readable safetensors"):
        load_torch(f"{package}:build", tmp_path / "bad.safetensors", SAMPLES)
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        load_torch(f"{package}:build", tmp_path / "other.safetensors", SAMPLES)


def test_a_module_that_raises_when_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_nets.py").write_text("def build(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError, match="importing broken_nets raised SyntaxError"):
        load_torch("broken_nets:build", None, SAMPLES)


def test_a_recurrent_module_exports_without_noise(
    package: str, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    samples = {"seq": np.zeros((2, 5, 4), np.float32)}
    load_torch(f"{package}:recurrent", None, samples)
    assert capfd.readouterr().err == ""
    assert [str(warning.message) for warning in recwarn] == ["from the user's module"]


def test_a_reference_needs_module_and_function() -> None:
    with pytest.raises(ModelError, match=r"package\.module:function"):
        load_torch("justaname:", None, SAMPLES)


def test_more_than_one_protobuf_holds_is_refused_with_a_way_out(package: str) -> None:
    with pytest.raises(ModelError, match=r"2400000000 bytes of weights; .* external_data=True"):
        load_torch(f"{package}:large", None, SAMPLES)
