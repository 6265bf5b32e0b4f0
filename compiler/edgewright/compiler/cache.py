"""A store of what was computed before, by the digest of everything that had a say in it. Nothing depends on it.

One entry is one file, so that a rename makes it, an unlink ends it, and processes need no lock:

    64 hex digits of the next line's SHA-256, newline
    {"key": ..., "files": [{"name": ..., "size_bytes": ..., "sha256": ...}, ...]}, newline
    the contents, one after the other

What does not match its digests, or is not a file that only its owner, this user, may write to, is a miss and is
removed. Reading an entry makes it young; the oldest go first, and before them those of the future: the clock was wrong.
A store that cannot be written, or that is another user's, is not used: one note says so, and all work is done again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import msgspec

from edgewright.bundle.errors import StorageFault
from edgewright.bundle.files import new_file

MAX_BYTES = 2 * 1024**3
MAX_HEADER_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
SUFFIX = ".entry"
BYTES_NAME = "content"
ABANDONED_AFTER_S = 3600
"""A temporary file of this age belongs to a process that died."""
CLOCK_TOLERANCE_S = 60
"""File systems of other machines may be a little ahead."""


T = TypeVar("T")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(pattern=r"^[^/\x00]{1,255}$")]
    size_bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: str


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    key: str
    files: tuple[_File, ...]


class _Damaged(Exception):
    """An entry that does not match its digests."""


def default_directory(environment: Mapping[str, str], home: Path) -> Path:
    """`$XDG_CACHE_HOME/edgewright`, or `~/.cache/edgewright` (XDG Base Directory: a relative path does not count)."""
    configured = Path(environment.get("XDG_CACHE_HOME", ""))
    return (configured if configured.is_absolute() else home / ".cache") / "edgewright"


def digest_of(parts: Iterable[bytes | str]) -> str:
    """A key: 64 hex digits of the parts in this order, each with its length, so that no two lists look the same."""
    total = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        total.update(len(content).to_bytes(8, "big"))
        total.update(content)
    return total.hexdigest()


def digest_of_file(path: Path) -> str:
    """64 hex digits of a file's content, read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Cache:
    """The entries of one directory. A fault of the disk is told once through `note`, and never raised."""

    def __init__(self, directory: Path, note: Callable[[str], None], max_bytes: int = MAX_BYTES) -> None:
        self._directory = directory
        self._note = note
        self._max_bytes = max_bytes
        self._usable = self._prepare()

    def get(self, key: str) -> bytes | None:
        """The bytes that were put under this key, or None."""
        entry = self._open(key)
        if entry is None:
            return None
        header, file = entry
        with file:
            return self._checked(key, lambda: _read_only_file(file, header))

    def put(self, key: str, content: bytes) -> None:
        """Keeps some bytes; an older entry of the key is replaced."""
        described = _File(name=BYTES_NAME, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

        def write(file: BinaryIO) -> None:
            file.write(content)

        self._write(key, (described,), write)

    def has(self, key: str) -> bool:
        """Whether there is an entry; it may still prove to be damaged."""
        try:
            return self._usable and self._path(key).is_file()
        except OSError as error:
            self._give_up(error)
            return False

    def get_files(self, key: str, folder: Path) -> tuple[str, ...] | None:
        """Writes the files of an entry into a folder and names them; None, and no file, where there is no such entry.

        Raises:
            OSError: `folder` cannot be written.
        """
        entry = self._open(key)
        if entry is None:
            return None
        header, file = entry
        with file:
            names = self._checked(key, lambda: _extract(file, header, folder))
        if names is None:
            for described in header.files:
                (folder / described.name).unlink(missing_ok=True)
        return names

    def put_files(self, key: str, folder: Path, names: Iterable[str]) -> None:
        """Keeps some files of a folder."""
        if not self._usable:
            return
        try:
            described = tuple(_describe(folder / name) for name in names)
        except OSError as error:
            self._give_up(error)
            return

        def copy(file: BinaryIO) -> None:
            for each in described:
                with (folder / each.name).open("rb") as source:
                    while chunk := source.read(CHUNK_BYTES):
                        file.write(chunk)

        self._write(key, described, copy)

    def _prepare(self) -> bool:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self._directory.stat()
            if found.st_uid != os.geteuid():
                self._note(f"the cache {self._directory} belongs to another user: working without it")
                return False
            if stat.S_IMODE(found.st_mode) & 0o077:
                self._directory.chmod(0o700)
        except OSError as error:
            self._give_up(error)
            return False
        return True

    def _give_up(self, error: Exception) -> None:
        self._usable = False
        reason = error.strerror if isinstance(error, OSError) else str(error)
        self._note(f"the cache {self._directory} cannot be used ({reason}): working without it")

    def _path(self, key: str) -> Path:
        return self._directory / f"{key}{SUFFIX}"

    def _open(self, key: str) -> tuple[_Header, BinaryIO] | None:
        if not self._usable:
            return None
        try:
            # Neither waits for a pipe nor follows a link that somebody put there while the folder was open to all.
            file = os.fdopen(os.open(self._path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                self._remove(self._path(key))
            else:
                self._give_up(error)
            return None
        header = self._checked(key, lambda: _read_header(file, key))
        if header is None:
            file.close()
            return None
        self._make_young(key)
        return header, file

    def _make_young(self, key: str) -> None:
        try:
            os.utime(self._path(key))
        except FileNotFoundError:
            return  # evicted by another process; what is open here can still be read
        except OSError as error:
            self._give_up(error)

    def _checked(self, key: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except _Damaged:
            self._remove(self._path(key))
            return None

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)

    def _write(self, key: str, described: tuple[_File, ...], write_contents: Callable[[BinaryIO], None]) -> None:
        size_bytes = sum(each.size_bytes for each in described)
        if not self._usable or size_bytes > self._max_bytes:
            return
        header = msgspec.json.encode(_Header(key=key, files=described))
        try:
            self._evict(size_bytes)
            with new_file(self._path(key)) as file:
                file.write(hashlib.sha256(header).hexdigest().encode() + b"\n" + header + b"\n")
                write_contents(file)
        except (OSError, StorageFault) as error:
            self._give_up(error)

    def _evict(self, needed_bytes: int) -> None:
        """Removes what is oldest until `needed_bytes` fit, and what dead processes left."""
        entries = []
        for found in os.scandir(self._directory):
            try:
                facts = found.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # another process was quicker
            age_s = time.time() - facts.st_mtime
            if found.name.endswith(SUFFIX):
                used_ns = facts.st_mtime_ns if age_s >= -CLOCK_TOLERANCE_S else 0
                entries.append((used_ns, facts.st_size, Path(found.path)))
            elif found.name.startswith(".") and abs(age_s) > ABANDONED_AFTER_S:
                Path(found.path).unlink(missing_ok=True)
        total_bytes = sum(size_bytes for _, size_bytes, _ in entries) + needed_bytes
        for _, size_bytes, path in sorted(entries):
            if total_bytes <= self._max_bytes:
                break
            path.unlink(missing_ok=True)
            total_bytes -= size_bytes


def _describe(path: Path) -> _File:
    return _File(name=path.name, size_bytes=path.stat().st_size, sha256=digest_of_file(path))


def _read_header(file: BinaryIO, key: str) -> _Header:
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise _Damaged
    expected = file.readline(66).rstrip(b"\n")
    line = file.readline(MAX_HEADER_BYTES)
    content = line.removesuffix(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != expected:
        raise _Damaged
    try:
        header = msgspec.json.decode(content, type=_Header)
    except msgspec.MsgspecError as error:
        raise _Damaged from error
    names = {each.name for each in header.files}
    size_bytes = sum(each.size_bytes for each in header.files)
    if header.key != key or len(names) < len(header.files) or names & {".", ".."} or size_bytes > facts.st_size:
        raise _Damaged
    return header


def _read_only_file(file: BinaryIO, header: _Header) -> bytes:
    if len(header.files) != 1:
        raise _Damaged
    content = file.read(header.files[0].size_bytes)
    if hashlib.sha256(content).hexdigest() != header.files[0].sha256:
        raise _Damaged
    return content


def _extract(file: BinaryIO, header: _Header, folder: Path) -> tuple[str, ...]:
    for described in header.files:
        total = hashlib.sha256()
        left_bytes = described.size_bytes
        with (folder / described.name).open("wb") as target:
            while left_bytes and (chunk := file.read(min(CHUNK_BYTES, left_bytes))):
                total.update(chunk)
                target.write(chunk)
                left_bytes -= len(chunk)
        if total.hexdigest() != described.sha256:
            raise _Damaged
    return tuple(described.name for described in header.files)
