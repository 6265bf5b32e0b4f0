"""Log-mel and MFCC against the formulas of librosa and HTK, written out with scipy and loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.fft
import scipy.signal
from numpy.typing import NDArray

from edgewright.bundle.steps import LogMel
from tests.bundle.processing.some_steps import run

RATE = 16_000
STEP: dict[str, Any] = {
    "tensor": "x",
    "sample_rate_hz": RATE,
    "frame_length": 400,
    "hop_length": 160,
    "fft_length": 512,
    "mels": 40,
    "low_hz": 20.0,
    "high_hz": 4000.0,
}


def slaney(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1000 else 15 + np.log(hertz / 1000) / (np.log(6.4) / 27)


def htk(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def triangle(hertz: float, low: float, middle: float, high: float) -> float:
    if low < hertz <= middle:
        return (hertz - low) / (middle - low)
    return (high - hertz) / (high - middle) if middle < hertz < high else 0.0


def reference(sound: NDArray[Any], mel: Any, window: str, area_norm: bool) -> NDArray[Any]:
    """Power mel bands, [frames, mels]; the points of the scale are found by bisection."""
    ends = np.linspace(mel(20.0), mel(4000.0), 42)
    points = [_inverse(mel, end) for end in ends]
    frames = [sound[start : start + 400] for start in range(0, len(sound) - 399, 160)]
    shape = np.ones(400) if window == "rectangular" else scipy.signal.get_window(window, 400, fftbins=True)
    power = np.array([np.abs(scipy.fft.rfft(frame * shape, 512)) ** 2 for frame in frames])
    bank = np.array([[triangle(k * RATE / 512, *points[band : band + 3]) for k in range(257)] for band in range(40)])
    if area_norm:
        bank *= np.array([[2 / (points[band + 2] - points[band])] for band in range(40)])
    found: NDArray[Any] = power @ bank.T
    return found


def _inverse(mel: Any, wanted: float) -> float:
    low, high = 0.0, 8000.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if mel(middle) < wanted else (low, middle)
    return low


@pytest.mark.parametrize(("scale", "mel"), [("slaney", slaney), ("htk", htk)])
@pytest.mark.parametrize(("window", "area_norm"), [("hann", True), ("hamming", False), ("rectangular", False)])
def test_bands_are_the_reference_s(scale: Any, mel: Any, window: Any, area_norm: bool) -> None:
    sound = np.random.default_rng(1).normal(size=4000) * np.hanning(4000)
    expected = np.log(np.maximum(reference(sound, mel, window, area_norm), 1e-6))
    step = LogMel(**STEP, scale=scale, window=window, area_norm=area_norm)
    (found,) = run(step, sound[None])
    assert found.shape == (1, 23, 40)
    np.testing.assert_allclose(found[0], expected, atol=2e-6, rtol=1e-5)


def test_decibel_and_log10_and_magnitude() -> None:
    sound = np.random.default_rng(2).normal(size=(1, 1000))
    natural, log10, decibel = (
        run(LogMel(**STEP, logarithm=kind), sound)[0] for kind in ("natural", "log10", "decibel")
    )
    np.testing.assert_allclose(log10, natural / np.log(10), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(decibel, 10 * log10, rtol=1e-5, atol=1e-5)
    one = {**STEP, "mels": 1, "low_hz": 0.0, "high_hz": 8000.0, "fft_length": 400}
    tone = np.sin(2 * np.pi * 1000 * np.arange(400) / RATE)[None]
    (power,), (magnitude,) = run(LogMel(**one), tone), run(LogMel(**one, spectrum="magnitude"), tone)
    assert magnitude[0, 0, 0] < power[0, 0, 0]  # a tone's magnitude is 100 where its power is 10 000


def test_mfcc_is_scipy_s_dct() -> None:
    sound = np.random.default_rng(5).normal(size=(2, 2000)).astype(np.float32)
    bands, coefficients = run(LogMel(**STEP), sound)[0], run(LogMel(**STEP, coefficients=13), sound)[0]
    expected = scipy.fft.dct(bands.astype(np.float64), type=2, norm="ortho", axis=-1)[..., :13]
    np.testing.assert_allclose(coefficients, expected, atol=1e-4)


def test_integers_count_as_minus_one_to_one() -> None:
    sound = np.random.default_rng(6).integers(-32768, 32767, (1, 800)).astype(np.int16)
    assert np.array_equal(run(LogMel(**STEP), sound)[0], run(LogMel(**STEP), sound / np.float64(32768))[0])


def test_silence_is_the_floor_and_nan_stays_in_its_frames() -> None:
    assert np.allclose(run(LogMel(**STEP, floor=1e-3), np.zeros((1, 400)))[0], np.log(1e-3))
    sound = np.ones((2, 1000))
    sound[0, 0] = np.nan
    (found,) = run(LogMel(**STEP), sound)
    assert np.isnan(found[0, 0]).all()
    assert np.isfinite(found[0, 3:]).all()
    assert np.isfinite(found[1]).all()
