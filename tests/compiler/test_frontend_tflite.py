"""`.tflite` files come in as ONNX files do, through every command; damaged ones are refused, never a traceback."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgewright.compiler.faults import ModelError, NotQuantizable
from edgewright.compiler.frontends.file import load_file
from edgewright.compiler.frontends.tflite import load_tflite
from edgewright.compiler.graph import operator_counts, signature
from edgewright.compiler.quantize_request import QuantizeRequest, quantize_model
from edgewright.compiler.tflite.file.write import write
from edgewright.targets.faults import UserFault
from tests.compiler.tflite.stand_ins import STAND_INS

MUTATIONS = 150
SAMPLES = 80


def saved(folder: Path, name: str, file: str = "net.tflite") -> Path:
    path = folder / file
    path.write_bytes(write(STAND_INS[name]()))
    return path


def data_for(model: Path) -> Path:
    """Samples in the type of the model's input, and which class the first output is."""
    (port,) = signature(load_file(model).graph).inputs
    numbers = np.random.default_rng(0).normal(size=(SAMPLES, *port.shape[1:]))
    samples = np.rint(numbers * 40).astype(np.int8) if port.dtype.name == "INT8" else numbers.astype(np.float32)
    path = model.with_suffix(".npz")
    np.savez(path, x=samples)
    return path


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgewright.runtime.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_file_has_a_name_a_digest_and_a_format(tmp_path: Path) -> None:
    path = saved(tmp_path, "resnet-float")
    source = load_tflite(path)
    assert (source.name, source.format) == ("net", "tflite")
    assert source.digest.startswith("sha256:")
    assert load_tflite(saved(tmp_path, "vww-float", "net2.tflite")).digest != source.digest
    assert operator_counts(source.graph)["Conv"] == 4


@pytest.mark.parametrize("file", ["net.tflite", "net.TFLITE", "model", "net.onnx"])
def test_what_a_file_is_its_name_or_its_mark_says(tmp_path: Path, file: str) -> None:
    assert load_file(saved(tmp_path, "ad-float", file)).format == "tflite"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.tflite").write_text("no model")
    with pytest.raises(ModelError, match=r"text\.tflite: not a TFLite file"):
        load_file(tmp_path / "text.tflite")
    with pytest.raises(ModelError, match=r"none\.tflite: cannot be read"):
        load_file(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="not a file"):
        load_tflite(tmp_path)


def mutated(content: bytes, seed: int) -> bytes:
    """Some bytes changed, or the end cut off."""
    dice = random.Random(seed)
    if dice.random() < 0.1:
        return content[: dice.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(dice.randrange(1, 8)):
        changed[dice.randrange(len(changed))] = dice.choice([0, 1, 127, 128, 255, dice.randrange(256)])
    return bytes(changed)


@pytest.mark.parametrize("name", ["kws-int8", "resnet-float", "kws-hybrid"])
def test_damaged_files_give_a_graph_or_a_message(tmp_path: Path, name: str) -> None:
    content, path = write(STAND_INS[name]()), tmp_path / "damaged.tflite"
    refused = []
    for seed in range(MUTATIONS):
        path.write_bytes(mutated(content, seed))
        try:
            load_tflite(path)
        except UserFault as fault:
            refused.append(str(fault))
    assert len(refused) > MUTATIONS // 20, "the mutations hit something"
    assert all(str(path) in message for message in refused)


def test_compile_ships_a_quantized_file_as_it_is(tmp_path: Path) -> None:
    model = saved(tmp_path, "kws-int8")
    out = tmp_path / "build"
    done = run("compile", model, "--target", "host", "--engine", "onnxruntime", "--data", data_for(model), "--out", out)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert report["source"]["format"] == "tflite"
    assert (out / "host.bundle").is_file()


def test_quantize_and_diff_take_them(tmp_path: Path) -> None:
    model, quantized = saved(tmp_path, "resnet-float"), tmp_path / "q.onnx"
    data = data_for(model)
    done = run("quantize", model, "--data", data, "--out", quantized)
    assert done.returncode == 0, done.stderr
    compared = run("diff", model, quantized, "--data", data, "--json")
    assert compared.returncode == 0, compared.stderr
    levels = {layer["operator"]: layer["snr_db"] for layer in json.loads(compared.stdout)["layers"]}
    assert levels["Conv"] > 10


def test_a_quantized_file_is_not_quantized_again(tmp_path: Path) -> None:
    model = saved(tmp_path, "resnet-int8")
    with pytest.raises(NotQuantizable, match="quantized already"):
        quantize_model(QuantizeRequest(model=model, data=data_for(model), out=tmp_path / "q.onnx"))


def test_a_damaged_file_stops_every_command(tmp_path: Path) -> None:
    path, data = tmp_path / "bad.tflite", data_for(saved(tmp_path, "ad-float"))
    path.write_bytes(write(STAND_INS["ad-float"]())[:200])
    for arguments in (
        ("compile", path, "--target", "host", "--data", data, "--out", tmp_path / "build"),
        ("quantize", path, "--data", data, "--out", tmp_path / "q.onnx"),
        ("diff", path, path, "--data", data),
    ):
        done = run(*arguments)
        assert done.returncode == 2, done.stdout
        assert "damaged TFLite file" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "build").exists() or not list((tmp_path / "build").iterdir())
