"""The two halves of watching data: edges are chosen in the compiler, counts are taken on the device. Needs numpy.

build_reference(inputs, outputs, labels)  ->  Reference     calibration data, once (calibrate.py)
Observer(reference).observe(…, cells)     ->  more counts   every request (observer.py)
"""

from .calibrate import build_reference
from .observer import Observer

__all__ = ["Observer", "build_reference"]
