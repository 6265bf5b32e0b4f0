"""Bundles that this machine's own daemon takes, and ways to spoil them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.targets.host import detect_host
from tests.runtime.small_bundle import SmallBundle, digits_bundle

MakeBundle = Callable[..., SmallBundle]


@pytest.fixture(scope="session")
def host_digest() -> str:
    return detect_host().digest()


@pytest.fixture
def make_bundle(tmp_path: Path, host_digest: str) -> MakeBundle:
    """Returns a maker of bundles for `host`; keyword arguments change the manifest."""

    def make(
        version: str = "1", *, seed: int = 0, golden_shift: float = 0.0, target: str = "host", **changes: Any
    ) -> SmallBundle:
        directory = tmp_path / "bundles" / f"digits-{version}-{target}"
        small = digits_bundle(directory, seed=seed, version=version, golden_shift=golden_shift, target=target)
        fitting = msgspec.structs.replace(small.manifest.target, digest=host_digest)
        draft = msgspec.structs.replace(small.manifest, **{"target": fitting, **changes})
        manifest = write_manifest(directory, draft)
        small.archive.unlink()
        return SmallBundle(directory, small.archive, pack(directory, small.archive), manifest)

    return make
