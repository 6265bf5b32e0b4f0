"""Versions 1 and 2 of the format: what each can say, and what a reader of one does with the other."""

from __future__ import annotations

import json

import msgspec
import pytest

from edgewright.bundle.errors import ManifestError
from edgewright.bundle.manifest import StatePair, TensorSpec, oldest_version_for
from edgewright.bundle.manifest_json import KEYS_OF_VERSION_2, decode_manifest, encode_manifest
from edgewright.bundle.manifest_state import check_state
from edgewright.bundle.steps import Softmax
from tests.bundle.samples import processed_manifest, sample_manifest

STATE = TensorSpec(name="scores", datatype="FP32", shape=(-1, 3))


def test_version_1_has_the_keys_it_always_had() -> None:
    assert not set(KEYS_OF_VERSION_2) & json.loads(encode_manifest(sample_manifest())).keys()


def test_the_oldest_version_that_says_it_is_written() -> None:
    assert oldest_version_for(processed=False, stateful=False) == 1
    assert oldest_version_for(processed=True, stateful=False) == 2
    assert oldest_version_for(processed=False, stateful=True) == 2


@pytest.mark.parametrize(
    "change", [{"postprocess": (Softmax(tensor="scores"),)}, {"state": (StatePair(input="a", output="b"),)}]
)
def test_version_1_cannot_say_what_only_version_2_can(change: dict[str, object]) -> None:
    with pytest.raises(ManifestError, match="needs format version 2"):
        encode_manifest(msgspec.structs.replace(sample_manifest(), **change))


def test_version_1_with_a_key_of_version_2_is_told_so() -> None:
    plain = json.loads(encode_manifest(sample_manifest())) | {"state": []}
    data = json.dumps(plain, indent=2, sort_keys=True).encode() + b"\n"
    with pytest.raises(ManifestError, match="version 1 of the format has no key `state`"):
        decode_manifest(data)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"outputs": (STATE, TensorSpec(name="h_out", datatype="FP32", shape=(-1, 9))), "model_outputs": ()},
            "expected the same",
        ),
        ({"state": (StatePair(input="nowhere", output="h_out"),)}, "no input 'nowhere'"),
        ({"state": (StatePair(input="h_in", output="nowhere"),)}, "no output 'nowhere'"),
        ({"state": (StatePair(input="h_in", output="h_out"),) * 2}, "two pairs"),
        ({"inputs": (TensorSpec(name="h_in", datatype="FP32", shape=(-1, 8)),)}, "every input"),
        ({"model_inputs": (TensorSpec(name="h_in", datatype="FP32", shape=(-1, 9)),)}, "not the model's own"),
    ],
)
def test_state_pairs_that_cannot_be(change: dict[str, object], words: str) -> None:
    check_state(processed_manifest())
    with pytest.raises(ManifestError, match=words):
        check_state(msgspec.structs.replace(processed_manifest(), **change))
