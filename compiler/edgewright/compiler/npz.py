"""Reads an `.npz` without holding it in memory: each member once, into a file without a name where it is large.

It is copied rather than mapped where it lies: a file that another program cuts short would end a process that has it
mapped by a signal. Format: NEP 1 for members (versions 1 and 2), APPNOTE.TXT 6.3.10 section 4.4 for the archive.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from . import mapped

READ_BYTES = 1 << 20
MAX_HEADER_CHARACTERS = 10_000
ENCRYPTED = 1
SUFFIX = ".npy"


@dataclass(frozen=True)
class _Header:
    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]


def read_members(archive: zipfile.ZipFile) -> Mapping[str, NDArray[Any]]:
    """All arrays.

    Raises:
        ValueError: a member is not an array of plain values, not as long as it says, or there twice.
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError: the archive is damaged.
        EnvironmentFault: no room for large arrays.
    """
    members = archive.infolist()
    names = [member.filename for member in members]
    for member in members:
        _check_readable(member)
        if names.count(member.filename) > 1:
            raise ValueError(f"member {member.filename!r} is there twice")
    return {member.filename.removesuffix(SUFFIX): _read(archive, member) for member in members}


def _check_readable(member: zipfile.ZipInfo) -> None:
    if member.flag_bits & ENCRYPTED:
        raise ValueError(f"member {member.filename!r} is encrypted")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"member {member.filename!r} is packed by method {member.compress_type}, expected 0 or 8")


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        header = _header(stream, member)
        shape = header.shape[::-1] if header.fortran_order else header.shape
        array = mapped.empty(shape, header.dtype)
        target = array.reshape(-1).view(np.uint8)
        filled = 0
        while block := stream.read(READ_BYTES):  # to the end, where the checksum is compared
            target[filled : filled + len(block)] = np.frombuffer(block, np.uint8)
            filled += len(block)
    if filled != len(target):
        raise ValueError(f"member {member.filename!r} ends after {filled} of {len(target)} bytes")
    return array.T if header.fortran_order else array


def _header(stream: IO[bytes], member: zipfile.ZipInfo) -> _Header:
    version = np.lib.format.read_magic(stream)
    try:
        if version == (1, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, MAX_HEADER_CHARACTERS)
        elif version == (2, 0):
            shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream, MAX_HEADER_CHARACTERS)
        else:
            raise ValueError(f"member {member.filename!r} has format version {version}, expected 1.0 or 2.0")
    except (tokenize.TokenError, SyntaxError, TypeError, RecursionError) as error:
        raise ValueError(f"member {member.filename!r} has a header that is no dictionary") from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"member {member.filename!r} holds {dtype}, which is not an array of numbers or words")
    if any(type(size) is not int or size < 0 for size in shape):  # True is an int, but no size
        raise ValueError(f"member {member.filename!r} has the impossible shape {shape}")
    expected = stream.tell() + math.prod(shape) * dtype.itemsize
    if expected != member.file_size:
        raise ValueError(f"member {member.filename!r} has {member.file_size} bytes, its header speaks of {expected}")
    return _Header(shape, fortran, dtype)
