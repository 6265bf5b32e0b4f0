"""What a simulated fleet begins with: releases whose bundles nobody fetches, and enrolled devices."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from edgewright.bundle.reference import Histogram, Reference, Source, write_reference

from ..place import Place
from ..service import Enrolled, Fleet
from ..store import releases
from ..store.enrolment import Enrolling

STARTED_S = 1_700_000_000.0
MODEL = "digits"
VERSIONS = ("1", "2", "3")
SECURITY_EPOCHS = {"1": 1, "2": 1, "3": 2}
BOARDS = ("raspberry-pi-5", "jetson-orin-nano")
BUNDLE_BYTES = 4_000_000


def bundle_of(version: str, board: str) -> str:
    """Return the digest of a bundle that is known by name only."""
    return "sha256:" + hashlib.sha256(f"{version} for {board}".encode()).hexdigest()


def reference_bytes() -> bytes:
    """Return a reference with one input and one class histogram."""
    histograms = (
        Histogram(
            name="x mean",
            role="input",
            kind="numeric",
            edges=(1.0, 2.0),
            counts=(500, 1000, 500),
            source=Source(tensor="x", statistic="mean"),
        ),
        Histogram(
            name="y class",
            role="output",
            kind="categorical",
            edges=(),
            counts=(1500, 500),
            source=Source(tensor="y", statistic="class"),
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reference.cbor"
        write_reference(path, Reference(version=1, histograms=histograms, confidence_table=None))
        return path.read_bytes()


_REFERENCE = reference_bytes()


def upload(fleet: Fleet) -> None:
    """Make each version a release for each board, without archives."""
    for version in VERSIONS:
        with fleet.database.write() as connection:
            for board in BOARDS:
                releases.put_bundle(
                    connection,
                    releases.StoredBundle(
                        digest=bundle_of(version, board),
                        model=MODEL,
                        version=version,
                        target=board,
                        target_digest=bundle_of("", board),
                        security_epoch=SECURITY_EPOCHS[version],
                        size_bytes=BUNDLE_BYTES,
                        manifest=b"{}",
                        reference_digest="sha256:" + hashlib.sha256(_REFERENCE).hexdigest(),
                        reference=_REFERENCE,
                        uploaded_s=fleet.now(),
                    ),
                )
        fleet.add_release(MODEL, version, [bundle_of(version, board) for board in BOARDS])


def enrol(fleet: Fleet, name: str, board: str, *, site: str) -> Enrolled:
    """Enrol one device."""
    token = fleet.add_token(label=name, lifetime_s=3600, place=Place(site=site))
    return fleet.enrol(token, Enrolling(name=name, target=board, target_digest=bundle_of("", board)))
