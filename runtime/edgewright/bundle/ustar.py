"""The archive's container: the subset of POSIX ustar in which every entry has exactly one valid header.

A reader rebuilds the header from the name and the size that it found and compares all 512 bytes, so no field can carry
anything else. Pure: bytes in, bytes out.
"""

from __future__ import annotations

from .errors import DamagedHeaderError, EntryTypeError, NotCanonicalError
from .paths import MAX_PATH_BYTES, check_path

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
"""Two zero blocks end the archive. No padding to a record of 10 240 bytes follows."""

MAX_ENTRY_BYTES = 8**11 - 1
"""What eleven octal digits hold: 8 GiB less one byte."""

_CHECKSUM = slice(148, 156)
_TYPE_NAMES = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"5": "a directory",
    b"6": "a pipe",
    b"L": "a GNU long name",
    b"x": "a pax header",
    b"g": "a global pax header",
}


def padding(size_bytes: int) -> int:
    """Zero bytes that follow a file's content up to the next block."""
    return -size_bytes % BLOCK_BYTES


def encode_header(path: str, size_bytes: int) -> bytes:
    """The one valid header for a file: mode 0644, owner 0, time 0, no user name, no prefix."""
    if not 0 <= size_bytes <= MAX_ENTRY_BYTES:
        raise ValueError(f"an entry has 0 to {MAX_ENTRY_BYTES} bytes, got {size_bytes}")
    fields = (
        check_path(path).encode("ascii").ljust(MAX_PATH_BYTES, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % size_bytes,
        b"%011o\0" % 0,
        b" " * 8,
        b"0" + bytes(100),
        b"ustar\x0000",
        bytes(64) + b"0000000\0" * 2 + bytes(155 + 12),
    )
    header = bytearray(b"".join(fields))
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def is_ustar(block: bytes) -> bool:
    """Whether a block claims to be a header of this kind of archive."""
    return block[257:262] == b"ustar"


def decode_header(block: bytes, offset: int) -> tuple[str, int]:
    """Path and size of the entry whose header is `block`, found at `offset` in the archive (for messages).

    Raises:
        DamagedHeaderError: the checksum is wrong or a field cannot be parsed.
        EntryTypeError: not a regular file.
        UnsafePathError: the path is not allowed.
        NotCanonicalError: any other field differs from the one valid header.
    """
    _check_checksum(block, offset)
    _check_type(block[156:157], offset)
    try:
        path = block[:MAX_PATH_BYTES].rstrip(b"\0").decode("ascii")
        size_bytes = int(block[124:135], 8)
    except ValueError as error:
        raise DamagedHeaderError(f"bundle: unreadable name or size in the header at byte {offset}.") from error
    if not 0 <= size_bytes <= MAX_ENTRY_BYTES:
        raise DamagedHeaderError(f"bundle: impossible size {size_bytes} in the header at byte {offset}.")
    if block[345:500].rstrip(b"\0"):
        path = block[345:500].rstrip(b"\0").decode("ascii", "replace") + "/" + path
    if encode_header(path, size_bytes) != block:
        raise NotCanonicalError(
            f"bundle: the header of {path} at byte {offset} is not in canonical form: expected mode 0644, owner, group "
            "and time 0, and no names of users. Was it repacked with another tar? Pack it with edgewright."
        )
    return path, size_bytes


def _check_checksum(block: bytes, offset: int) -> None:
    try:
        claimed = int(block[_CHECKSUM].strip(b"\0 "), 8)
    except ValueError as error:
        raise DamagedHeaderError(f"bundle: no entry header at byte {offset}: it is damaged, or not a tar.") from error
    if claimed != sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" "):
        raise DamagedHeaderError(
            f"bundle: the entry header at byte {offset} fails its checksum: it is damaged. Fetch the bundle again."
        )


def _check_type(flag: bytes, offset: int) -> None:
    if flag not in (b"0", b"\0"):
        kind = _TYPE_NAMES.get(flag, f"type {flag!r}")
        raise EntryTypeError(f"bundle: the entry at byte {offset} is {kind}; only regular files are allowed.")
