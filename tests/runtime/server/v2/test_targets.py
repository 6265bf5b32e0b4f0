"""Targets that are remembered: few, short, and by their exact bytes."""

from __future__ import annotations

from edgewright.runtime.server.v2.targets import Targets


def test_a_long_target_is_not_kept() -> None:
    """Its query has room for 32 kB that no limit would ever free."""
    targets = Targets()
    long = b"/v2/models/m/infer?" + b"x" * 30_000
    targets.keep(long, ("m", None))
    targets.keep(b"/v2/models/m/infer", ("m", None))
    assert targets.get(long) is None
    assert targets.get(b"/v2/models/m/infer") == ("m", None)
    assert targets.get(b"/v2/models/m/infer/") is None


def test_they_are_bounded() -> None:
    targets = Targets()
    names = [b"/v2/models/m/infer?%d" % number for number in range(5000)]
    for name in names:
        targets.keep(name, ("m", None))
    assert 0 < sum(targets.get(name) is not None for name in names) <= 1024
    assert targets.get(names[-1]) == ("m", None)
