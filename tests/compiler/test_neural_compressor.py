"""The adapter: integers that another tool chose arrive in our model unchanged; without the tool, one clear message.

The tests that call neural-compressor run where it is installed (`pip install '.[compiler,neural-compressor]'`).
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edgewright.compiler.adapters.neural_compressor import (
    LEFT,
    Stored,
    StoredWeight,
    quantize_transformer,
    stored_model,
)
from edgewright.compiler.faults import NotQuantizable
from edgewright.compiler.graph import Graph, to_bytes
from edgewright.compiler.metrics import snr_db

INSTALLED = importlib.util.find_spec("neural_compressor") is not None
needs_it = pytest.mark.skipif(not INSTALLED, reason="neural-compressor-pt is not installed")

NET = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(64, 64) for _ in range(4))
        self.up, self.down = nn.Linear(64, 128), nn.Linear(128, 64)
        self.first, self.second = nn.LayerNorm(64), nn.LayerNorm(64)

    def forward(self, x):
        h = self.first(x)
        scores = torch.softmax(self.query(h) @ self.key(h).transpose(-1, -2) / 8, -1)
        x = x + self.out(scores @ self.value(h))
        return x + self.down(torch.relu(self.up(self.second(x))))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))

def build():
    torch.manual_seed(0)
    return Net().eval()
"""


def weight_of(seed: int, outputs: int, inputs: int, block_size: int) -> StoredWeight:
    random = np.random.default_rng(seed)
    integers = random.integers(-8, 8, (outputs, inputs)).astype(np.int8)
    scales = random.uniform(0.01, 0.1, (outputs, -(-inputs // block_size))).astype(np.float32)
    return StoredWeight(integers, scales, block_size)


def graph_with(*weights: StoredWeight) -> Graph:
    """x @ w0.T @ w1.T ..., as PyTorch's linear layers are exported."""
    value = ir.val("x", ir.DataType.FLOAT, ["N", weights[0].integers.shape[1]])
    inputs, nodes, constants = [value], [], []
    for index, weight in enumerate(weights):
        array = np.ascontiguousarray(weight.restored.T)
        constant = ir.Value(
            name=f"w{index}",
            const_value=ir.tensor(array, name=f"w{index}"),
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape(array.shape),
        )
        constants.append(constant)
        node = ir.node("MatMul", [value, constant], name=f"linear{index}")
        value = node.outputs[0]
        value.name, value.type = f"y{index}", ir.TensorType(ir.DataType.FLOAT)
        value.shape = ir.Shape(["N", array.shape[1]])
        nodes.append(node)
    graph = ir.Graph(inputs, [value], nodes=nodes, initializers=constants, opset_imports={"": 21}, name="g")
    return ir.Model(graph, ir_version=10)


def stored_integers(model: Graph) -> list[np.ndarray]:
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return [tensor.numpy().astype(np.int8) for tensor in tensors if tensor and tensor.dtype == ir.DataType.INT4]


@pytest.mark.parametrize("block_size", [16, 32])
def test_every_integer_arrives_as_it_was_chosen(block_size: int) -> None:
    weights = [weight_of(1, 48, 64, block_size), weight_of(2, 10, 48, block_size)]
    result = stored_model(graph_with(*weights), {"a": weights[0], "b": weights[1]}, block_size)
    found = stored_integers(result.model)
    assert len(found) == 2
    for weight, integers in zip(weights, found, strict=True):
        flat = integers.reshape(-1)
        assert np.array_equal(np.sort(flat), np.sort(weight.integers.reshape(-1)))
    x = np.random.default_rng(3).normal(size=(5, 64)).astype(np.float32)
    expected = x @ weights[0].restored.T @ weights[1].restored.T
    assert snr_db(run(result.model, x), expected) > 100, "the very same numbers, in another order of summation"


def test_a_block_of_zeros_without_a_scale() -> None:
    weight = weight_of(1, 16, 64, 32)
    weight.integers[:, :32] = 0
    weight.scales[:, 0] = 0
    result = stored_model(graph_with(weight), {"a": weight}, 32)
    x = np.random.default_rng(3).normal(size=(5, 64)).astype(np.float32)
    assert snr_db(run(result.model, x), x @ weight.restored.T) > 100


def test_what_was_not_rounded_stays_float_and_says_so() -> None:
    weights = [weight_of(1, 48, 64, 32), weight_of(2, 10, 48, 32)]
    result = stored_model(graph_with(*weights), {"b": weights[1]}, 32)
    assert result.plan.operators["linear0"].compute == "float"
    assert result.plan.operators["linear0"].reason == LEFT
    assert result.plan.operators["linear1"].compute == "weights"
    with pytest.raises(NotQuantizable, match="no product"):
        stored_model(graph_with(*weights), {"c": weight_of(9, 10, 48, 32)}, 32)


def run(model: Graph, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NET)
    code = (
        "import sys; sys.modules['neural_compressor'] = None; sys.path.insert(0, '.')\n"
        "import numpy as np\n"
        "from edgewright.compiler.adapters.neural_compressor import quantize_transformer\n"
        "from edgewright.targets.faults import Fault\n"
        "try:\n"
        "    quantize_transformer('nets:build', None, {'x': np.zeros((2, 8, 64), np.float32)})\n"
        "except Fault as fault:\n"
        "    print(fault.exit_code, fault)\n"
    )
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.startswith("5 ")
    assert "pip install 'edgewright[compiler,neural-compressor]'" in result.stdout


@needs_it
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_gptq_beats_rounding_to_nearest_on_data_with_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets_for_neural_compressor.py").write_text(NET)
    monkeypatch.syspath_prepend(tmp_path)
    random = np.random.default_rng(5)
    samples = (random.normal(size=(64, 8, 64)) @ random.normal(size=(64, 64)) / 8).astype(np.float32)
    import torch
    from nets_for_neural_compressor import build  # type: ignore[import-not-found]

    truth = build()(torch.from_numpy(samples)).detach().numpy()
    levels = {}
    for algorithm in ("rtn", "gptq"):
        result: Stored = quantize_transformer("nets_for_neural_compressor:build", None, {"x": samples}, algorithm)
        assert sum(operator.compute == "weights" for operator in result.plan.operators.values()) >= 12
        levels[algorithm] = snr_db(run(result.model, samples), truth)
    assert levels["rtn"] > 15
    assert levels["gptq"] > levels["rtn"] + 3
