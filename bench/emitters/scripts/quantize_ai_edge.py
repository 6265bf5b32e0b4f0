"""Quantizes a .tflite file with ai-edge-quantizer, by one of its recipes. Runs in the peers' environment."""

import json
import sys
import warnings
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe  # type: ignore[import-not-found]  # of another environment

job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
SIGNATURE = "serving_default"


def main() -> None:
    """Runs the job that is named on the command line."""
    warnings.simplefilter("ignore")  # calibration keeps every tensor, and the interpreter warns that this takes memory
    (name,) = Interpreter(model_path=job["source"]).get_signature_list()[SIGNATURE]["inputs"]
    samples = [{name: sample[None]} for sample in np.load(job["samples"])["x"]]
    peer = quantizer.Quantizer(job["source"])
    peer.load_quantization_recipe(getattr(recipe, job["recipe"])())
    result = peer.quantize(peer.calibrate({SIGNATURE: samples}))
    result.export_model(job["out"], overwrite=True)
    Path(job["result"]).write_text("{}", encoding="utf-8")


main()
