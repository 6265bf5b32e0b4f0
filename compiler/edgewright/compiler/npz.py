"""Reads an `.npz` without holding it in memory: stored members are mapped where they lie, others unpacked once.

Format: NEP 1 for members (versions 1 and 2), APPNOTE.TXT 6.3.10 sections 4.3.7 and 4.4 for the archive.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from . import mapped

READ_BYTES = 1 << 20
MAX_HEADER_CHARACTERS = 10_000
LOCAL_HEADER = struct.Struct("<4s22xHH")
LOCAL_SIGNATURE = b"PK\x03\x04"
ENCRYPTED = 1
SUFFIX = ".npy"


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size_bytes: int
    """Of itself."""


def read_members(path: Path, archive: zipfile.ZipFile) -> Mapping[str, NDArray[Any]]:
    """All arrays; those that are mapped are read-only, may be unaligned, and need the file to stay as it is.

    Raises:
        ValueError: a member is not an array of plain values, or not as long as it says.
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError: the archive is damaged.
        EnvironmentFault: no room to unpack.
    """
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for member in archive.infolist():
        _check_readable(member)
    return {
        member.filename.removesuffix(SUFFIX): _stored(content, archive, member)
        if member.compress_type == zipfile.ZIP_STORED
        else _unpacked(archive, member)
        for member in archive.infolist()
    }


def _check_readable(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & ENCRYPTED:
        raise ValueError(f"member {member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {member.filename!r} is packed by method {member.compress_type}, expected 0 or 8")


def _stored(content: mmap.mmap, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        header = _header(stream, member)
        while stream.read(READ_BYTES):  # to the end, where the checksum is compared
            pass
    signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(content, member.header_offset)
    start = member.header_offset + LOCAL_HEADER.size + name_bytes + extra_bytes
    if signature != LOCAL_SIGNATURE or start + member.file_size > len(content):
        raise ValueError(f"member {member.filename!r} lies outside of the file")
    place = start + header.size_bytes
    return np.ndarray(header.shape, header.dtype, content, place, order="F" if header.fortran_order else "C")


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        header = _header(stream, member)
        shape = header.shape[::-1] if header.fortran_order else header.shape
        array = mapped.empty(shape, header.dtype)
        target = array.reshape(-1).view(np.uint8)
        filled = 0
        while block := stream.read(READ_BYTES):
            target[filled : filled + len(block)] = np.frombuffer(block, np.uint8)
            filled += len(block)
    if filled != len(target):
        raise ValueError(f"member {member.filename!r} ends after {filled} of {len(target)} bytes")
    return array.T if header.fortran_order else array


def _header(stream: IO[bytes], member: zipfile.ZipInfo) -> _Header:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, MAX_HEADER_CHARACTERS)
    elif version == (2, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream, MAX_HEADER_CHARACTERS)
    else:
        raise ValueError(f"member {member.filename!r} has format version {version}, expected 1.0 or 2.0")
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"member {member.filename!r} holds {dtype}, which is not an array of numbers or words")
    found = _Header(shape, fortran, dtype, stream.tell())
    expected = found.size_bytes + math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or expected != member.file_size:
        raise ValueError(f"member {member.filename!r} has {member.file_size} bytes, its header speaks of {expected}")
    return found
