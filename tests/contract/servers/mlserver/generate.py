"""Writes a model repository for MLServer: `python generate.py FOLDER`, then `mlserver start FOLDER` (see the guide)."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
INTEGERS = [f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)]
DATATYPES = ["BOOL", *INTEGERS, "FP32", "FP64", "BYTES"]  # FP16 has no JSON form, and MLServer no other
SETTINGS = {"host": "127.0.0.1", "http_port": 8080, "grpc_port": 8081, "metrics_port": 8082, "parallel_workers": 0}


def tensor(name: str, datatype: str, width: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": [-1, width]}


def main(folder: Path) -> None:
    """Write the settings of the server and of its two models."""
    models = {
        "digits": ([tensor("image", "FP32", 64)], [tensor("scores", "FP32", 10)]),
        "echo": tuple([tensor(f"{way}_{each.lower()}", each, 3) for each in DATATYPES] for way in ("in", "out")),
    }
    for name, (inputs, outputs) in models.items():
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "contract_models.py", target)
        settings = {
            "name": name,
            "implementation": f"contract_models.{name.capitalize()}",
            "parameters": {"version": "1"},
            "inputs": inputs,
            "outputs": outputs,
        }
        (target / "model-settings.json").write_text(json.dumps(settings, indent=2))
    (folder / "settings.json").write_text(json.dumps(SETTINGS, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
