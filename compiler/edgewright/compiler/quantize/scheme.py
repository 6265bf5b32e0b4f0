"""Which integers a plan uses: types of activations and weights, and what guards their sums on the target."""

from __future__ import annotations

from typing import Literal

from ..passes import Options

ActivationType = Literal["uint8", "int8", "uint16", "int16"]
WeightType = Literal["int8", "uint8", "int4"]
Calibrator = Literal["min-max", "percentile", "entropy", "mse"]
Method = Literal["static", "dynamic", "weights"]
"""`static`: ranges from calibration data. `dynamic`: ranges of each call, MatMul-like operators only. `weights`: only
what is stored is small, the arithmetic is float."""
Guard = Literal["none", "pairs", "seven-bit"]
"""Against sums of two products that saturate at 16 bits: `pairs` narrows only the channels whose neighbouring weights
can overflow with activations as they are; `seven-bit` narrows every weight (reduce_range elsewhere)."""

RuleSet = Literal["onnxruntime", "tflite"]
"""Who executes the plan: which operators have integer kernels, and which numbers are forced."""

SHORT = {"uint8": "u8", "int8": "s8", "uint16": "u16", "int16": "s16", "int4": "s4"}


class Scheme(Options, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan starts from; single operators and tensors may differ afterwards."""

    method: Method = "static"
    activations: ActivationType = "uint8"
    weights: WeightType = "int8"
    per_channel: bool = True
    guard: Guard = "none"
    block_size: int = 32
    """Weights that share a scale, where weights are int4."""
    rules: RuleSet = "onnxruntime"
    """`tflite` goes with int8 and int16 activations."""
    shared_pools: bool = False
    """Whether averages by TFLite's rules get the encoding of what they average, as AVERAGE_POOL_2D has it, however much
    narrower their own range is. Else they are rescaled, which takes an NPU about as long as a small convolution."""

    @property
    def name(self) -> str:
        """Short and stable: it stands in reports and in measurements. Targets of one run share plans by it."""
        suffix = {"none": "", "pairs": "-guarded", "seven-bit": "-7bit"}[self.guard]
        if self.rules != "onnxruntime":
            suffix += f"-{self.rules}"
        if self.shared_pools:
            suffix += "-pools"
        grain = "" if self.per_channel else "-per-tensor"
        if self.method != "static":
            return f"{self.weights}-{self.method}{grain}{suffix}"
        width = "int16" if self.activations.endswith("16") else "int8"
        return f"{width}-{SHORT[self.activations]}{SHORT[self.weights]}{grain}{suffix}"
