"""Intel Neural Compressor (`neural-compressor-pt`, 3.10) for int4 weights of PyTorch transformers (docs/adr/0008).

It rounds: to the nearest step, or by GPTQ (Frantar et al. 2023, arXiv 2210.17323), which makes later columns of a
matrix pay for the rounding of earlier ones. Its integers and scales become a weight-only plan of ours, and our emitter
writes the model. Nothing of its file formats is read or written, and no pickle.
"""

from __future__ import annotations

import copy
import logging
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..faults import NotQuantizable, ToolchainMissing
from ..frontends.torch import import_attribute, load_torch
from ..graph import Graph
from ..optimize import FLOAT_PASSES
from ..passes import NoOptions
from ..quantize.plan import Operator, Plan, WeightEncoding
from ..quantize.scheme import Scheme
from ..quantize.uncalibrated.products import product_of
from ..quantize.uncalibrated.weight_only import emit_weights, propose_weights

Algorithm = Literal["rtn", "gptq"]
BITS = 4
INSTALL = "pip install 'edgewright[compiler,neural-compressor]'"
LEFT = "neural-compressor left it as it is"


@dataclass(frozen=True)
class StoredWeight:
    """The weight of one `torch.nn.Linear` as integers."""

    integers: NDArray[np.int8]
    """Shape (outputs, inputs), -8 to 7."""
    scales: NDArray[np.float32]
    """Shape (outputs, blocks): of the weights that stand beside each other along the inputs."""
    block_size: int

    @property
    def restored(self) -> NDArray[np.float32]:
        """The weight as the model will use it, float32, shape (outputs, inputs)."""
        spread = np.repeat(self.scales, self.block_size, axis=1)[:, : self.integers.shape[1]]
        return self.integers.astype(np.float32) * spread


@dataclass(frozen=True)
class Stored:
    """A model whose weights neural-compressor has rounded."""

    model: Graph
    """With int4 weights, as our emitter writes them."""
    plan: Plan
    graph: Graph
    """The float graph that the plan belongs to; its weights are rounded already."""


def quantize_transformer(
    build: str,
    weights: Path | None,
    samples: Mapping[str, NDArray[Any]],
    algorithm: Algorithm = "gptq",
    block_size: int = 32,
) -> Stored:
    """Stores the linear layers of a PyTorch model in int4.

    Args:
        build: `package.module:function`; the function takes nothing and returns a `torch.nn.Module`.
        weights: its safetensors file, or None where `build` returns a trained module.
        samples: arrays in the module's types, samples first; GPTQ learns from them.
        algorithm: `rtn` rounds to nearest; `gptq` needs a stack of blocks in a `torch.nn.ModuleList`.
        block_size: weights that share a scale: 16, 32, 64, 128 or 256.

    Raises:
        ToolchainMissing: neural-compressor, or a package that it needs and does not declare, is not installed.
        ModelError: the module cannot be built, loaded or exported.
        NotQuantizable: neural-compressor fails on it, or rounds nothing.
    """
    _api()  # before the work that would be lost without it
    load_torch(build, weights, samples)  # says what is wrong with module, weights or samples before others fail on them
    module = import_attribute(build, "model")()
    if weights is not None:
        from safetensors.torch import load_file

        module.load_state_dict(load_file(weights))
    stored = rounded_linears(module.eval(), samples, algorithm, block_size)
    graph = _exported(build, module, stored, samples)
    return stored_model(graph, stored, block_size)


def rounded_linears(
    module: Any, samples: Mapping[str, NDArray[Any]], algorithm: Algorithm, block_size: int
) -> dict[str, StoredWeight]:
    """Has neural-compressor round a module; the weights of its linear layers by their names in `named_modules`.

    Args:
        module: a `torch.nn.Module` in evaluation mode; it is not altered.
        samples: arrays by the name of the forward argument; `x` stands for the only one.
        algorithm: `rtn` or `gptq`.
        block_size: weights that share a scale.

    Raises:
        ToolchainMissing, NotQuantizable: as `quantize_transformer`.
    """
    api = _api()
    with tempfile.TemporaryDirectory() as nowhere:  # gptq downloads a model of the hub unless this is a folder
        shared = {"bits": BITS, "use_sym": True, "group_size": block_size, "model_path": nowhere}
        config = api.RTNConfig(**shared, use_layer_wise=False) if algorithm == "rtn" else api.GPTQConfig(**shared)
        try:
            prepared = api.prepare(copy.deepcopy(module), config)
            if algorithm == "gptq":
                _show(prepared, samples)
            converted = api.convert(prepared)
        except ModuleNotFoundError as error:
            raise _missing(error) from error
        except Exception as error:  # it checks little, and fails with whatever comes first
            raise NotQuantizable(
                f"neural-compressor cannot do {algorithm} on this model: {type(error).__name__}: {error}. "
                "gptq needs the blocks of the transformer in a torch.nn.ModuleList; rtn takes any linear layer"
            ) from error
    found = {name: _unpacked(part, block_size) for name, part in converted.named_modules() if hasattr(part, "qweight")}
    if not found:
        raise NotQuantizable(f"neural-compressor found no linear layer for {algorithm} in this model")
    return found


def _api() -> Any:
    logging.getLogger("neural_compressor").setLevel(logging.ERROR)  # it reports every step on stderr
    try:
        import neural_compressor.torch.quantization as api
    except ModuleNotFoundError as error:
        raise _missing(error) from error
    return api


def _missing(error: ModuleNotFoundError) -> ToolchainMissing:
    return ToolchainMissing(f"neural-compressor needs {error.name}, which is not installed here: {INSTALL}")


def _show(prepared: Callable[..., Any], samples: Mapping[str, NDArray[Any]]) -> None:
    """Runs the samples one by one."""
    import torch

    count = len(next(iter(samples.values())))
    with torch.no_grad():
        for index in range(count):
            given = {name: torch.from_numpy(array[index : index + 1]) for name, array in samples.items()}
            if list(given) == ["x"]:
                prepared(given["x"])
            else:
                prepared(**given)


def _unpacked(part: Any, block_size: int) -> StoredWeight:
    fields = part.unpack()
    integers = fields["int_weight"].numpy().astype(np.int16)
    zeros = np.repeat(fields["zp"].numpy().astype(np.int16), block_size, axis=1)[:, : integers.shape[1]]
    return StoredWeight((integers - zeros).astype(np.int8), fields["scales"].float().numpy(), block_size)


def _exported(
    build: str, module: Any, stored: Mapping[str, StoredWeight], samples: Mapping[str, NDArray[Any]]
) -> Graph:
    """The optimised graph of the module with its rounded weights, which travel as safetensors."""
    import torch
    from safetensors.torch import save_file

    state = {name: tensor.clone().contiguous() for name, tensor in module.state_dict().items()}
    state |= {f"{name}.weight": torch.from_numpy(weight.restored) for name, weight in stored.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rounded.safetensors"
        save_file(state, path)
        graph = load_torch(build, path, samples).graph
    for float_pass in FLOAT_PASSES:
        graph = float_pass(graph, NoOptions()).graph
    return graph


def stored_model(graph: Graph, stored: Mapping[str, StoredWeight], block_size: int) -> Stored:
    """The plan in which every product whose weight was rounded uses exactly those integers, and the model it makes.

    Args:
        graph: optimised, with the restored weights as its float weights; they are recognised by their values.
        stored: the rounded weights, by any names.
        block_size: of all of them.

    Raises:
        NotQuantizable: no product of the graph has such a weight.
    """
    known = {_content(weight.restored): weight for weight in stored.values()}
    proposed = propose_weights(graph, Scheme(method="weights", weights="int4", block_size=block_size))
    operators: dict[str, Operator] = {}
    for node in graph.graph:
        if node.name not in proposed.operators or node.name is None:
            continue
        product = product_of(node)
        weight = None if isinstance(product, str) else known.get(_content(_by_outputs(product.weight, product.axis)))
        operators[node.name] = (
            Operator(compute="float", reason=LEFT)
            if weight is None or isinstance(product, str)
            else Operator(compute="weights", weight=_encoding(weight, product.axis))
        )
    if not any(operator.compute == "weights" for operator in operators.values()):
        raise NotQuantizable("no product of the exported model has a weight that neural-compressor rounded")
    plan = msgspec.structs.replace(proposed, operators=operators)
    return Stored(emit_weights(graph, plan), plan, graph)


def _encoding(weight: StoredWeight, axis: int) -> WeightEncoding:
    # A block of zeros may come with scale 0, which divides badly; any scale stores zeros.
    scales = np.where(weight.scales > 0, weight.scales, np.float32(1.0))
    return WeightEncoding(
        type="int4", axis=axis, scale=tuple(float(scale) for scale in scales.ravel()), block_size=weight.block_size
    )


def _by_outputs(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return weight if axis == 0 else weight.T


def _content(weight: NDArray[np.float32]) -> bytes:
    """The weight's values; -0 counts as 0."""
    return str(weight.shape).encode() + np.ascontiguousarray(weight + np.float32(0.0)).tobytes()
