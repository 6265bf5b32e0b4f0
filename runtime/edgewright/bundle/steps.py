"""The steps before and after a model, as a manifest writes them: one struct of options each. Without numpy.

What each computes is in `processing/`, one file per step. A struct here is part of the format (docs/formats/bundle.md):
a new field or step is a new format version. All shapes below have the batch in front, `n`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from .tensor_spec import Strict, Text

MAX_STEPS = 32
MAX_CHANNELS = 4096
MAX_LABELS = 4096
MAX_LABEL_CHARACTERS = 256

Port = Annotated[Text, Meta(min_length=1)]
Side = Annotated[int, Meta(ge=1, le=8192)]
"""Of a picture, in pixels."""
Finite = Annotated[float, Meta(ge=-1e30, le=1e30)]
Fraction = Annotated[float, Meta(ge=0.0, le=1.0)]
PerChannel = Annotated[tuple[Finite, ...], Meta(min_length=1, max_length=MAX_CHANNELS)]
PictureLayout = Literal["NHWC", "NCHW"]
CastDatatype = Literal["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64"]


class Resize(Strict, frozen=True, kw_only=True, tag_field="step", tag="resize"):
    """Pictures in another size; datatype and channels stay. UINT8 and INT8 are rounded, half to even."""

    tensor: Port
    height: Side
    width: Side
    method: Literal["nearest", "bilinear"] = "bilinear"
    """Both with half-pixel centres, as PyTorch (`bilinear`, `nearest-exact`) and ONNX (`half_pixel`) have them."""
    antialias: bool = False
    """Bilinear only: widens the filter when a picture shrinks, as Pillow always does."""
    layout: PictureLayout = "NHWC"


class Crop(Strict, frozen=True, kw_only=True, tag_field="step", tag="crop"):
    """The middle of pictures; an odd rest is cut at the bottom and at the right."""

    tensor: Port
    height: Side
    width: Side
    layout: PictureLayout = "NHWC"


class Cast(Strict, frozen=True, kw_only=True, tag_field="step", tag="cast"):
    """Another datatype. To integers: rounds half to even, saturates, NaN becomes 0."""

    tensor: Port
    datatype: CastDatatype


class Normalise(Strict, frozen=True, kw_only=True, tag_field="step", tag="normalise"):
    """(x * scale - mean) / std, in FP32 and in this order."""

    tensor: Port
    mean: PerChannel = (0.0,)
    std: PerChannel = (1.0,)
    """None is 0."""
    scale: Finite = 1.0
    axis: Annotated[int, Meta(ge=-1, le=15)] = -1
    """Of the channels; -1 is the last. `mean` and `std` have one entry, or one per channel."""


class Transpose(Strict, frozen=True, kw_only=True, tag_field="step", tag="transpose"):
    """Axes in another order; the batch stays in front."""

    tensor: Port
    axes: Annotated[tuple[Annotated[int, Meta(ge=0, le=15)], ...], Meta(min_length=2, max_length=16)]
    """From NHWC to NCHW: 0, 3, 1, 2."""


class Reshape(Strict, frozen=True, kw_only=True, tag_field="step", tag="reshape"):
    """The values of each sample in another shape."""

    tensor: Port
    shape: Annotated[tuple[Annotated[int, Meta(ge=1, lt=2**31)], ...], Meta(max_length=15)]
    """Of one sample, without the batch."""


class LogMel(Strict, frozen=True, kw_only=True, tag_field="step", tag="log-mel"):
    """Sound [n, samples] to features [n, frames, mels] in FP32; INT16 counts as -1 to 1."""

    tensor: Port
    sample_rate_hz: Annotated[int, Meta(ge=1, le=768_000)]
    frame_length: Annotated[int, Meta(ge=2, le=16_384)]
    """In samples, as all lengths."""
    hop_length: Annotated[int, Meta(ge=1, le=16_384)]
    fft_length: Annotated[int, Meta(ge=2, le=16_384)]
    """At least `frame_length`; frames are filled up with zeros at their end."""
    window: Literal["hann", "hamming", "rectangular"] = "hann"
    """Periodic, of `frame_length`."""
    spectrum: Literal["power", "magnitude"] = "power"
    mels: Annotated[int, Meta(ge=1, le=512)]
    low_hz: Annotated[float, Meta(ge=0.0, le=384_000.0)] = 0.0
    high_hz: Annotated[float, Meta(gt=0.0, le=384_000.0)]
    scale: Literal["htk", "slaney"] = "htk"
    area_norm: bool = False
    """Divides each triangle by its width in Hz, as librosa does by default (`norm="slaney"`)."""
    logarithm: Literal["natural", "log10", "decibel"] = "natural"
    """`decibel` is 10 log10 of power and 20 log10 of magnitude."""
    floor: Annotated[float, Meta(gt=1e-30, le=1e30)] = 1e-6
    """What is smaller counts as this, before the logarithm."""
    coefficients: Annotated[int, Meta(ge=0, le=512)] = 0
    """0 gives the mel bands; else so many first coefficients of their orthonormal DCT-II (MFCC)."""


class Dequantize(Strict, frozen=True, kw_only=True, tag_field="step", tag="dequantize"):
    """(x - zero_point) * scale of integers, in FP32."""

    tensor: Port
    scale: Annotated[float, Meta(gt=0.0, le=1e30)]
    zero_point: Annotated[int, Meta(ge=-(2**31), lt=2**31)] = 0


class Rename(Strict, frozen=True, kw_only=True, tag_field="step", tag="rename"):
    """Another name."""

    tensor: Port
    name: Port


class Softmax(Strict, frozen=True, kw_only=True, tag_field="step", tag="softmax"):
    """Scores to probabilities along the last axis, in the tensor's own datatype; computed in FP32 or better."""

    tensor: Port


class Sigmoid(Strict, frozen=True, kw_only=True, tag_field="step", tag="sigmoid"):
    """1 / (1 + exp(-x)), in the tensor's own datatype; computed in FP32 or better."""

    tensor: Port


class Argmax(Strict, frozen=True, kw_only=True, tag_field="step", tag="argmax"):
    """The place of the largest along the last axis, which goes; INT64. First of equals; NaN is minus infinity."""

    tensor: Port


class TopK(Strict, frozen=True, kw_only=True, tag_field="step", tag="top-k"):
    """The largest along the last axis in falling order, first of equals first; NaN counts as minus infinity."""

    tensor: Port
    """It goes; two or three others come."""
    k: Annotated[int, Meta(ge=1, le=1000)]
    values: Port = "values"
    """Name of the new tensor of values, in the same datatype."""
    indices: Port = "indices"
    """Name of the new tensor of places, INT64."""
    names: Port = "labels"
    """Name of the new BYTES tensor, where there are labels."""
    labels: Annotated[
        tuple[Annotated[Text, Meta(max_length=MAX_LABEL_CHARACTERS)], ...], Meta(max_length=MAX_LABELS)
    ] = ()
    """None, or one for each place."""


class Nms(Strict, frozen=True, kw_only=True, tag_field="step", tag="nms"):
    """Non-maximum suppression, class by class: the best boxes of a picture that do not lie on better ones.

    `boxes` [n, b, 4] and `scores` [n, b, c] go; `output_boxes` [n, m, 4], `output_scores` [n, m], `output_classes`
    INT64 [n, m] and `output_count` INT64 [n] come, by falling score, filled up with zeros (classes with -1).
    """

    boxes: Port
    scores: Port
    form: Literal["corners", "centre"] = "corners"
    """`corners`: two opposite ones, x and y in any order; `centre`: middle, then width and height in the same order."""
    iou_threshold: Fraction = 0.5
    """Boxes that overlap a better one of their class by more than this go."""
    score_threshold: Fraction = 0.05
    """Only what has a larger score counts."""
    candidates: Annotated[int, Meta(ge=1, le=8192)] = 1000
    """So many of a picture are looked at, the best ones of all classes."""
    outputs: Annotated[int, Meta(ge=1, le=1000)] = 100
    """`m`, the most boxes that are kept."""
    output_boxes: Port = "detection_boxes"
    output_scores: Port = "detection_scores"
    output_classes: Port = "detection_classes"
    output_count: Port = "detection_count"


Step = (
    Resize
    | Crop
    | Cast
    | Normalise
    | Transpose
    | Reshape
    | LogMel
    | Dequantize
    | Rename
    | Softmax
    | Sigmoid
    | Argmax
    | TopK
    | Nms
)
Steps = Annotated[tuple[Step, ...], Meta(max_length=MAX_STEPS)]
