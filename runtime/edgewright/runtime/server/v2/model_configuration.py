"""A model's configuration in the words of Triton's `model_configuration` extension, from its manifest and settings."""

from __future__ import annotations

from typing import Any

from edgewright.bundle.manifest import TensorSpec

from ..served_model import ServedModel


def model_configuration(model: ServedModel, platform: str) -> dict[str, Any]:
    """Return the configuration as JSON values; sizes of a free batch are left out of `dims`, as Triton does."""
    manifest, settings = model.manifest, model.settings
    inputs, outputs = tuple(model.signature.inputs.values()), tuple(model.signature.outputs.values())
    batched = bool(inputs) and all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs))
    rows = settings.max_batch_rows if batched else 0
    config: dict[str, Any] = {
        "name": model.name,
        "platform": platform,
        "backend": manifest.engine.name,
        "version_policy": {"specific": {"versions": [int(model.version)]}}
        if model.version.isdecimal()
        else {"latest": {"num_versions": 1}},
        "max_batch_size": rows,
        "input": [_tensor(spec, batched=batched) for spec in inputs],
        "output": [_tensor(spec, batched=batched) for spec in outputs],
        "instance_group": [{"name": f"{model.name}_0", "kind": "KIND_CPU", "count": 1}],
        "default_model_filename": "",
        "parameters": {
            "precision": {"string_value": manifest.precision},
            "bundle": {"string_value": model.bundle},
        },
    }
    if batched:
        config["dynamic_batching"] = _dynamic_batching(model)
    return config


def _tensor(spec: TensorSpec, *, batched: bool) -> dict[str, Any]:
    kind = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    return {"name": spec.name, "data_type": kind, "dims": list(spec.shape[1:] if batched else spec.shape)}


def _dynamic_batching(model: ServedModel) -> dict[str, Any]:
    settings = model.settings
    policy: dict[str, Any] = {"timeout_action": "REJECT", "allow_timeout_override": True}
    policy["max_queue_size"] = settings.queue_jobs
    if settings.timeout_ms is not None:
        policy["default_timeout_microseconds"] = round(settings.timeout_ms * 1000)
    return {"max_queue_delay_microseconds": 0, "default_queue_policy": policy}
