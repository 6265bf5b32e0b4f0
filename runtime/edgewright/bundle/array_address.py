"""Where an array's elements lie, in a tenth of the time that numpy takes to say it.

`array.ctypes.data` builds an object and imports for it: 1 µs, several times in a call of ten. The address is the first
field of the array object behind Python's own header: numpy's C headers have it there, compiled into every extension
module that reads arrays (`PyArrayObject_fields` in ndarraytypes.h), so it cannot move within a major version. Where it
is not found there at import, the slow way is taken.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HEADER_BYTES = object.__basicsize__
_field = ctypes.c_size_t.from_address


def _read(array: NDArray[Any]) -> int:
    return _field(id(array) + _HEADER_BYTES).value


def _ask(array: NDArray[Any]) -> int:
    return array.ctypes.data


def _reads_right() -> bool:
    memory = np.arange(24, dtype=np.uint8)
    views = (memory, memory[3:], memory[8:16].reshape(2, 4), memory[::-2])
    return all(_read(view) == _ask(view) for view in views)


address_of: Callable[[NDArray[Any]], int] = _read if _reads_right() else _ask
"""Address of an array's first element. The array must stay alive for as long as the address is used."""
