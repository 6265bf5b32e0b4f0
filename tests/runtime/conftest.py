"""Fixtures that every test of the device part may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.small_bundle import SmallBundle, digits_bundle


@pytest.fixture
def digits_like_bundle(tmp_path: Path) -> SmallBundle:
    """A small bundle for `host`: `image FP32 [-1, 64] -> scores FP32 [-1, 10]`, model `digits`, version `1`."""
    return digits_bundle(tmp_path / "digits-1")
