"""The modules that other parts and users may build on, and the names they hold. A change here is a change for users."""

from __future__ import annotations

import importlib

import pytest

PUBLIC: dict[str, tuple[str, ...]] = {
    "edgewright.targets.board": ("Board", "BoardError"),
    "edgewright.targets.catalog": ("board_names", "load_board"),
    "edgewright.targets.host": ("detect_host",),
    "edgewright.targets.cost": ("OperatorCost", "Workload", "LatencyEstimate", "estimate_latency"),
    "edgewright.targets.faults": ("EnvironmentFault", "Fault", "UserFault"),
    "edgewright.bundle.archive": ("archive_digest", "pack", "read_manifest", "unpack", "verify"),
    "edgewright.bundle.assemble": ("write_manifest",),
    "edgewright.bundle.errors": ("BundleError",),
    "edgewright.bundle.golden": ("Golden", "compare", "read_golden", "write_golden"),
    "edgewright.bundle.manifest": ("FORMAT_VERSION", "Manifest", "OLDEST_READABLE_VERSION"),
    "edgewright.bundle.processing": ("Processing", "ProcessingError", "model_manifest", "pipeline_of"),
    "edgewright.bundle.observe": ("Observer",),
    "edgewright.bundle.reference": ("Histogram", "Reference", "read_reference", "write_reference"),
    "edgewright.runtime.telemetry.records": ("GapRecord", "UpdateRecord", "WindowRecord"),
    "edgewright.runtime.telemetry.wire": ("Envelope", "WireError", "seal", "unseal"),
    "edgewright.runtime.engines.protocol": (),
    "edgewright.fleet.core.rollout": ("TRANSITIONS", "fire", "tick"),
    "edgewright.fleet.core.policy.policy": ("Policy", "read_policy"),
}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_there_and_documented(module: str) -> None:
    found = importlib.import_module(module)
    assert found.__doc__, f"{module} has no docstring"
    for name in PUBLIC[module]:
        value = getattr(found, name)
        if callable(value):
            assert value.__doc__, f"{module}.{name} has no docstring"
