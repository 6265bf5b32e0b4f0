"""The rules that a scheme asks for."""

from __future__ import annotations

from ..scheme import Scheme
from .onnxruntime import OnnxRuntimeRules
from .rules import Rules


def rules_of(scheme: Scheme) -> Rules:
    """Of who executes plans of this scheme.

    Raises:
        ValueError: TFLite's rules with activations that it does not have; plan files are checked before.
    """
    if scheme.rules == "onnxruntime":
        return OnnxRuntimeRules()
    from .tflite import TFLiteRules  # start-up time: TFLite's schema is large, and few plans need it

    return TFLiteRules(scheme.activations)
