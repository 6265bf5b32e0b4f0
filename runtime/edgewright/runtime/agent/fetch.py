"""Downloads that go on where they stopped: <hex>.part grows, and becomes <hex>.bundle when its digest is right."""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgewright.targets.faults import EnvironmentFault, UserFault

from ..storage import Storage, ensure_directory
from .http_source import ByteSource, SourceAway
from .jobs import Cancelled
from .pause import jittered_s

_log = logging.getLogger(__name__)


class WrongArchive(UserFault):
    """What the server sends is not the archive that was ordered."""


class FetchFault(EnvironmentFault):
    """The archive did not come."""


@dataclass(frozen=True, kw_only=True)
class FetchLimits:
    """How much, and for how long."""

    max_bytes: int
    deadline_s: float
    clock: Callable[[], float] = time.monotonic


class Downloads:
    """The download directory."""

    def __init__(self, storage: Storage, directory: Path, limits: FetchLimits) -> None:
        self._storage = storage
        self._directory = directory
        self._limits = limits

    def path(self, bundle: str) -> Path:
        """Return where a finished download lies."""
        return self._directory / f"{_hex(bundle)}.bundle"

    def discard(self, bundle: str) -> None:
        """Remove what there is of a download."""
        for path in (self.path(bundle), self._part(bundle)):
            if self._storage.exists(path):
                self._storage.remove(path)

    def fetch(self, bundle: str, path: str, size_bytes: int, source: ByteSource, cancelled: Cancelled) -> Path:
        """Return the path of the archive, downloading what is missing of it.

        Raises:
            WrongArchive: too large, or another digest.
            FetchFault: the server refuses, or stayed away until the deadline, or the download was cancelled.
        """
        done = self.path(bundle)
        if self._storage.exists(done):
            return done
        if not 0 < size_bytes <= self._limits.max_bytes:
            raise WrongArchive(f"the archive has {size_bytes} bytes; this device takes 1 to {self._limits.max_bytes}")
        ensure_directory(self._storage, self._directory)
        until_s = self._limits.clock() + self._limits.deadline_s
        suspicious = True
        attempt = 0
        while not cancelled.is_set():
            before = self._have(bundle)
            try:
                self._receive(bundle, path, size_bytes, source, cancelled, until_s)
                return self._finish(bundle, size_bytes)
            except SourceAway as error:
                attempt = 0 if self._have(bundle) > before else attempt + 1
                if self._limits.clock() >= until_s:
                    raise FetchFault(f"gave up after {self._limits.deadline_s:g} s: {error}") from error
                _log.warning("%s; trying again", error)
                cancelled.wait(jittered_s(attempt, random.random()))  # noqa: S311 - a pause, not a secret
            except WrongArchive:
                if not suspicious:
                    raise
                # A power cut may have torn what was left here, or a proxy what came: once more, from the start.
                suspicious = False
        raise FetchFault("the download was cancelled")

    def _receive(
        self, bundle: str, path: str, size_bytes: int, source: ByteSource, cancelled: Cancelled, until_s: float
    ) -> None:
        part = self._part(bundle)
        have = self._have(bundle)
        if have >= size_bytes:
            return
        for chunk in source.open(path, have):
            if cancelled.is_set():
                raise FetchFault("the download was cancelled")
            if not chunk:
                self._storage.truncate(part, 0)
                have = 0
                continue
            wanted = chunk[: size_bytes - have]
            have += len(wanted)
            self._storage.append(part, wanted)
            if have == size_bytes:
                return  # a server may go on for ever; the digest says whether this was all
            if self._limits.clock() >= until_s:
                raise SourceAway(f"{path}: {have} of {size_bytes} bytes came in time")
        if have < size_bytes:
            raise SourceAway(f"{path}: the connection ended after {have} of {size_bytes} bytes")

    def _finish(self, bundle: str, size_bytes: int) -> Path:
        part, done = self._part(bundle), self.path(bundle)
        hashed = hashlib.sha256()
        for chunk in self._storage.chunks(part):
            hashed.update(chunk)
        digest = f"sha256:{hashed.hexdigest()}"
        if digest != bundle:
            self._storage.remove(part)
            raise WrongArchive(f"the download of {size_bytes} bytes has digest {digest}, ordered was {bundle}")
        self._storage.sync_path(part)
        self._storage.rename(part, done)
        self._storage.sync_directory(self._directory)
        return done

    def _have(self, bundle: str) -> int:
        part = self._part(bundle)
        return self._storage.size_bytes(part) if self._storage.exists(part) else 0

    def _part(self, bundle: str) -> Path:
        return self._directory / f"{_hex(bundle)}.part"


def _hex(bundle: str) -> str:
    algorithm, _, digest = bundle.partition(":")
    if algorithm != "sha256" or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise WrongArchive(f"bundle digest {bundle[:100]!r}: expected sha256: and 64 hexadecimal digits")
    return digest
