"""A file of a bundle that is code, opened only if it is the file that the manifest names and this processor can run it.

A shared library is code, and loading it runs it. So the bytes that are loaded are those that the manifest names,
and the manifest is what the device has verified: the file is opened once (no link is followed), hashed through that
descriptor, and loaded through it as well, so that no other file can take its path between check and load. What someone
could still do who may *write into this file* is to change it while it is hashed or afterwards; a change that happens
before loading is done is seen in its times. Whoever may do that is the device's own user or root, and can as well
change this program. A sealed copy in memory (memfd) would close that gap too; it was not taken, because a mapped file
is shared between server and trial process and is given up under memory pressure, because it would double the memory of
large weights, and because it runs code from where the administrator said that none runs (`noexec`, SELinux).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgewright.bundle.errors import BundleError
from edgewright.bundle.files import open_regular
from edgewright.bundle.manifest import Manifest
from edgewright.targets.host import detect_host

from .protocol import ModelRefused

MODEL_FILE = "model/model.so"

_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Processor:
    """What code can run here."""

    arch: str
    isa: frozenset[str]


def this_processor() -> Processor:
    """Returns what /proc/cpuinfo says."""
    board = detect_host()
    return Processor(board.arch, frozenset(board.cpu.isa if board.cpu else ()))


def check_processor(manifest: Manifest, processor: Processor, isa: tuple[str, ...]) -> None:
    """Hold the manifest's architecture, and the features that code needs, against a processor.

    Raises:
        ModelRefused: the code cannot run there.
    """
    wanted = manifest.target
    if wanted.arch != processor.arch:
        raise ModelRefused(
            f"{manifest.model} is machine code for {wanted.arch}, this processor is {processor.arch}; nothing can "
            "emulate it here. Compile it for this machine"
        )
    if missing := sorted(set(isa) - processor.isa):
        raise ModelRefused(
            f"{manifest.model} is machine code for {wanted.name}; this processor lacks {', '.join(missing)}. "
            "Compile it for this machine"
        )


class VerifiedFile:
    """`model/model.so`, open, after it was found to be what the manifest describes."""

    def __init__(self, file: BinaryIO, model: str) -> None:
        self.descriptor = file.fileno()
        self._model = model
        self._times = _times(self.descriptor)

    def check_unchanged(self) -> None:
        """To be called when the loader is done.

        Raises:
            ModelRefused: the file was written to since it was opened.
        """
        if _times(self.descriptor) != self._times:
            raise ModelRefused(
                f"{MODEL_FILE} of {self._model} was written to while it was loaded. Install the bundle again"
            )

    def hint(self) -> str:
        """Why the loader may have refused it, as the end of a sentence; often empty."""
        noexec = os.fstatvfs(self.descriptor).f_flag & os.ST_NOEXEC
        return ". Its folder is on a file system that is mounted noexec" if noexec else ""


@contextmanager
def open_verified(directory: Path, manifest: Manifest) -> Iterator[VerifiedFile]:
    """Open the library of an unpacked bundle.

    Raises:
        ModelRefused: there is none, or it is not the file that the manifest names.
    """
    entry = next((entry for entry in manifest.entries if entry.path == MODEL_FILE), None)
    if entry is None:
        raise ModelRefused(
            f"the bundle of {manifest.model} has no {MODEL_FILE}, which engine {manifest.engine.name} loads"
        )
    try:
        with open_regular(directory / MODEL_FILE) as file:
            verified = VerifiedFile(file, manifest.model)
            if os.fstat(verified.descriptor).st_size != entry.size_bytes or _sha256(file) != entry.sha256:
                raise ModelRefused(
                    f"{MODEL_FILE} of {manifest.model} is not the file that its manifest describes; it was not loaded. "
                    "Install the bundle again"
                )
            yield verified
    except BundleError as error:
        raise ModelRefused(f"{manifest.model}: {error}") from error


def _times(descriptor: int) -> tuple[int, int, int]:
    status = os.fstat(descriptor)
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
