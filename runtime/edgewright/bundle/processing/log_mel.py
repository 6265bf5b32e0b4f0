"""Sound to log-mel features or MFCC: frames, window, FFT, triangles on the mel scale, logarithm, DCT.

Frame f starts at sample f * hop_length; there is no padding, and samples behind the last whole frame are not looked at.
Computed in FP64, one sound at a time.

Sources: HTK mel 2595 log10(1 + f/700) (Young et al., The HTK Book, 5.4); Slaney mel (Auditory Toolbox, 1998): linear to
1000 Hz at 200/3 Hz each, then 27 steps per factor 6.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..steps import LogMel
from ..tensor_spec import Datatype, TensorSpec
from .bound import Array, Bound, ProcessingError, check_cost, numpy_of, sample_shape, spec

Floats = NDArray[np.float64]

DATATYPES: frozenset[Datatype] = frozenset({"INT16", "FP32", "FP64"})

_SLANEY_HZ = 200.0 / 3.0
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_STEP = math.log(6.4) / 27.0

_NARROWEST_HZ = 1e-6
"""Half of a band, between two points. Below it their difference is rounding, or nothing, and it is divided by."""


def bind(step: LogMel, tensor: TensorSpec) -> Bound:
    """The features of sounds of one length."""
    dtype = numpy_of(tensor, DATATYPES)
    (samples,) = sample_shape(tensor, 2)
    _check(step, samples)
    frames = 1 + (samples - step.frame_length) // step.hop_length
    bins = step.fft_length // 2 + 1
    cost = {
        "scratch_bytes": 8 * (samples + frames * (step.fft_length + 3 * bins + 2 * step.mels) + bins * step.mels),
        "operations": frames * (5 * step.fft_length * step.fft_length.bit_length() + 2 * bins * step.mels),
    }
    check_cost(**cost)
    width = step.coefficients or step.mels
    result = spec(tensor, datatype="FP32", shape=(tensor.shape[0], frames, width), layout=None)
    sample_shape(result)
    features = _features(step)
    full_scale = 32768.0 if dtype.kind == "i" else 1.0

    def run(sounds: Array) -> tuple[Array, ...]:
        found = np.empty((len(sounds), frames, width), np.float32)
        with np.errstate(all="ignore"):
            for place, sound in enumerate(sounds):
                found[place] = features(sound.astype(np.float64) / full_scale)
        return (found,)

    return Bound(takes=(tensor.name,), gives=(result,), run=run, **cost)


def _check(step: LogMel, samples: int) -> None:
    if step.frame_length > samples:
        raise ProcessingError(f"frames of {step.frame_length} samples; the sound has {samples}")
    if step.fft_length < step.frame_length:
        raise ProcessingError(f"fft_length {step.fft_length} is less than frame_length {step.frame_length}")
    if not step.low_hz < step.high_hz <= step.sample_rate_hz / 2:
        raise ProcessingError(
            f"bands from {step.low_hz:g} to {step.high_hz:g} Hz; expected to rise, up to {step.sample_rate_hz / 2:g}"
        )
    if step.coefficients > step.mels:
        raise ProcessingError(f"{step.coefficients} coefficients of {step.mels} mel bands")


def _features(step: LogMel) -> Callable[[Floats], Floats]:
    window, bands_of = _window(step), _bands(mel_bank(step))
    cosines = _dct(step.mels, step.coefficients) if step.coefficients else None

    def features(sound: Floats) -> Floats:
        frames = sliding_window_view(sound, step.frame_length)[:: step.hop_length] * window
        spectrum = np.fft.rfft(frames, step.fft_length)
        power = spectrum.real**2 + spectrum.imag**2
        bands = bands_of(np.sqrt(power) if step.spectrum == "magnitude" else power)
        logarithms = _logarithm(step, np.maximum(bands, step.floor))  # of a NaN, np.maximum makes a NaN
        return logarithms if cosines is None else np.einsum("fm,mc->fc", logarithms, cosines)

    return features


def _bands(bank: Floats) -> Callable[[Floats], Floats]:
    """Sums over the bins of each triangle. Not a matrix product: BLAS sums in an order that depends on its threads."""
    places = [np.flatnonzero(weights) for weights in bank.T]
    parts = [slice(int(place[0]), int(place[-1]) + 1) if len(place) else slice(0, 0) for place in places]
    weights = [np.ascontiguousarray(bank[part, band]) for band, part in enumerate(parts)]

    def bands_of(spectrum: Floats) -> Floats:
        bands = np.empty((len(spectrum), len(parts)))
        for band, part in enumerate(parts):
            bands[:, band] = (spectrum[:, part] * weights[band]).sum(axis=1)
        return bands

    return bands_of


def _window(step: LogMel) -> Floats:
    angles = 2 * np.pi * np.arange(step.frame_length) / step.frame_length
    a0 = {"hann": 0.5, "hamming": 0.54, "rectangular": 1.0}[step.window]
    window: Floats = a0 - (1 - a0) * np.cos(angles)
    return window


def _logarithm(step: LogMel, bands: Floats) -> Floats:
    if step.logarithm == "natural":
        return np.log(bands)
    factor = {"log10": 1.0, "decibel": 20.0 if step.spectrum == "magnitude" else 10.0}[step.logarithm]
    return factor * np.log10(bands)


def mel_bank(step: LogMel) -> Floats:
    """Weights [bins, mels]: triangles between equally spaced points of the mel scale.

    Raises:
        ProcessingError: bands that are too narrow to compute.
    """
    to_mel, to_hz = (_htk_mel, _htk_hz) if step.scale == "htk" else (_slaney_mel, _slaney_hz)
    ends = to_mel(np.array([step.low_hz, step.high_hz]))
    points = to_hz(np.linspace(ends[0], ends[1], step.mels + 2))
    if np.diff(points).min() < _NARROWEST_HZ:
        raise ProcessingError(
            f"bands of less than {_NARROWEST_HZ:g} Hz between {step.low_hz:g} and {step.high_hz:g} Hz"
        )
    hertz = np.arange(step.fft_length // 2 + 1) * (step.sample_rate_hz / step.fft_length)
    rising = (hertz[:, None] - points[:-2]) / (points[1:-1] - points[:-2])
    falling = (points[2:] - hertz[:, None]) / (points[2:] - points[1:-1])
    bank = np.maximum(0.0, np.minimum(rising, falling))
    if step.area_norm:
        bank *= 2.0 / (points[2:] - points[:-2])
    return bank


def _htk_mel(hertz: Floats) -> Floats:
    mel: Floats = 2595.0 * np.log10(1.0 + hertz / 700.0)
    return mel


def _htk_hz(mel: Floats) -> Floats:
    hertz: Floats = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    return hertz


def _slaney_mel(hertz: Floats) -> Floats:
    above = np.maximum(hertz, _SLANEY_BREAK_HZ)
    logarithmic = _SLANEY_BREAK_HZ / _SLANEY_HZ + np.log(above / _SLANEY_BREAK_HZ) / _SLANEY_STEP
    mel: Floats = np.where(hertz < _SLANEY_BREAK_HZ, hertz / _SLANEY_HZ, logarithmic)
    return mel


def _slaney_hz(mel: Floats) -> Floats:
    start = _SLANEY_BREAK_HZ / _SLANEY_HZ
    logarithmic = _SLANEY_BREAK_HZ * np.exp(_SLANEY_STEP * (np.maximum(mel, start) - start))
    hertz: Floats = np.where(mel < start, mel * _SLANEY_HZ, logarithmic)
    return hertz


def _dct(mels: int, coefficients: int) -> Floats:
    """The orthonormal DCT-II as a matrix [mels, coefficients]."""
    angles = np.pi / mels * (np.arange(mels)[:, None] + 0.5) * np.arange(coefficients)
    cosines: Floats = np.cos(angles) * math.sqrt(2.0 / mels)
    cosines[:, 0] /= math.sqrt(2.0)
    return cosines
