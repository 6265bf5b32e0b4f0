"""Addresses of arrays, read where numpy keeps them."""

from __future__ import annotations

import numpy as np

from edgewright.bundle.array_address import address_of


def test_addresses_are_those_that_numpy_says() -> None:
    base = np.arange(1000, dtype=np.int16)
    for view in (base, base[7:], base[::-3], base.reshape(10, 100)[3:], base[:0], np.ones(()), base.T):
        assert address_of(view) == view.ctypes.data
