"""Bundles that the end-to-end tests pass around."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Releases:
    """Bundles for the host and for a Raspberry Pi 5 of two releases of one model."""

    folder: Path

    def bundle(self, version: str, target: str = "host") -> Path:
        return self.folder / f"v{version}" / f"{target}.bundle"
