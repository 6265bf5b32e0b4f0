"""A disk in memory that can lose its power: the stand-in of `storage.Storage`.

It knows what POSIX promises and no more: content is on the medium after `sync_file`, names are on the medium after
`sync_directory`, a rename is atomic, and everything else may be there, be missing, or be torn after a power cut. It
counts operations and cuts the power at any one of them, so a test can walk through every moment of an update.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast


class PowerCut(BaseException):
    """The power went off. Not an Exception: no handler may survive it."""


@dataclass
class _File:
    content: bytes = b""
    durable: bytes = b""
    dropped: bool = False
    """A flush failed: the pages are called clean from then on, and never reach the medium."""


@dataclass
class _Directory:
    entries: dict[str, _File | _Directory] = field(default_factory=dict)
    durable: dict[str, _File | _Directory] = field(default_factory=dict)


AfterCut = Callable[[bytes, bytes], bytes]
"""(what was synced, what was last written) -> what is found after the power cut."""


def lose_unsynced(durable: bytes, content: bytes) -> bytes:
    """Nothing that was not synced arrived."""
    del content
    return durable


def keep_unsynced(durable: bytes, content: bytes) -> bytes:
    """Everything arrived though nobody asked for it."""
    del durable
    return content


def tear_unsynced(durable: bytes, content: bytes) -> bytes:
    """Half of what was not synced arrived."""
    kept = len(durable) if content.startswith(durable) else 0
    return content[: kept + (len(content) - kept) // 2]


def zero_unsynced(durable: bytes, content: bytes) -> bytes:
    """The new length arrived, the new content did not: delayed allocation leaves zeros."""
    kept = len(durable) if content.startswith(durable) else 0
    return content[:kept] + bytes(len(content) - kept)


@dataclass(frozen=True)
class Damage:
    """What a power cut does to that which was not synced."""

    name: str
    content: AfterCut
    names_arrive: bool
    """Whether creations, removals and renames that were not synced are found done."""


DAMAGES: tuple[Damage, ...] = tuple(
    Damage(f"{'names' if arrive else 'no-names'}-{label}", content, arrive)
    for arrive in (False, True)
    for label, content in (
        ("lost", lose_unsynced),
        ("kept", keep_unsynced),
        ("torn", tear_unsynced),
        ("zeros", zero_unsynced),
    )
)


class MemoryStorage:
    """A disk in memory. With `cut_at = n`, the n-th changing operation (from 1) stops halfway and raises PowerCut."""

    def __init__(self, *, cut_at: int | None = None, capacity_bytes: int | None = None) -> None:
        self._root = _Directory()
        self.cut_at = cut_at
        self.capacity_bytes = capacity_bytes
        self.refuses: Callable[[str], bool] = lambda _operation: False
        """Operations, as `log` has them, that end in an I/O error."""
        self.operations = 0
        self.log: list[str] = []

    def rebooted(self, damage: Damage) -> MemoryStorage:
        """Return the disk as the next boot finds it."""
        disk = MemoryStorage(capacity_bytes=self.capacity_bytes)
        disk._root = _after_cut(self._root, damage)
        return disk

    def make_directory(self, path: Path) -> None:
        parent = self._directory(path.parent)
        if path.name in parent.entries:
            raise FileExistsError(f"{path} exists")
        self._step(f"make_directory {path}")
        parent.entries[path.name] = _Directory()

    def create(self, path: Path) -> BinaryIO:
        parent = self._directory(path.parent)
        if path.name in parent.entries:
            raise FileExistsError(f"{path} exists")
        self._step(f"create {path}")
        file = _File()
        parent.entries[path.name] = file
        handle = _MemoryHandle(file, path, lambda content: self._append_to(file, path, content))
        return cast("BinaryIO", handle)

    def sync_file(self, file: BinaryIO) -> None:
        handle = cast("_MemoryHandle", file)
        self._step(f"sync_file {handle.path}")
        handle.file.durable = handle.file.content

    def sync_directory(self, path: Path) -> None:
        directory = self._directory(path)
        self._step(f"sync_directory {path}")
        directory.durable = dict(directory.entries)

    def rename(self, source: Path, destination: Path) -> None:
        old, new = self._directory(source.parent), self._directory(destination.parent)
        if source.name not in old.entries:
            raise FileNotFoundError(f"{source} does not exist")
        occupant = new.entries.get(destination.name)
        if isinstance(occupant, _Directory) and occupant.entries:
            raise OSError(f"{destination} is a directory that is not empty")
        self._step(f"rename {source} {destination}")
        new.entries[destination.name] = old.entries.pop(source.name)

    def remove_tree(self, path: Path) -> None:
        directory = self._directory(path)
        for name, node in list(directory.entries.items()):
            if isinstance(node, _Directory):
                self.remove_tree(path / name)
            else:
                self.remove(path / name)
        self._step(f"remove_directory {path}")
        del self._directory(path.parent).entries[path.name]

    def exists(self, path: Path) -> bool:
        return self._find(path) is not None

    def names(self, path: Path) -> tuple[str, ...]:
        node = self._find(path)
        return tuple(sorted(node.entries)) if isinstance(node, _Directory) else ()

    def size_bytes(self, path: Path) -> int:
        return len(self._file(path).content)

    def read(self, path: Path) -> bytes:
        return self._file(path).content

    def chunks(self, path: Path) -> Iterator[bytes]:
        yield self._file(path).content

    def write(self, path: Path, content: bytes) -> None:
        parent = self._directory(path.parent)
        node = parent.entries.get(path.name)
        file = node if isinstance(node, _File) else _File()
        self._room(len(content) - len(file.content))
        cut = self._cut_now(f"write {path}")
        parent.entries[path.name] = file
        file.content = content[: len(content) // 2] if cut else content
        file.dropped = False  # every page is written anew
        self._raise_if(cut)

    def append(self, path: Path, content: bytes) -> None:
        parent = self._directory(path.parent)
        node = parent.entries.get(path.name)
        self._append_to(node if isinstance(node, _File) else _File(), path, content)

    def truncate(self, path: Path, size_bytes: int) -> None:
        file = self._file(path)
        self._step(f"truncate {path}")
        file.content = file.content[:size_bytes]

    def sync_path(self, path: Path) -> None:
        file = self._file(path)
        try:
            self._step(f"sync_path {path}")
        except OSError:
            file.dropped = True
            raise
        if not file.dropped:
            file.durable = file.content

    def remove(self, path: Path) -> None:
        self._file(path)
        self._step(f"remove {path}")
        del self._directory(path.parent).entries[path.name]

    def _append_to(self, file: _File, path: Path, content: bytes) -> None:
        self._room(len(content))
        cut = self._cut_now(f"append {path}")
        self._directory(path.parent).entries[path.name] = file
        file.content += content[: len(content) // 2] if cut else content
        self._raise_if(cut)

    def _room(self, more_bytes: int) -> None:
        if self.capacity_bytes is not None and _used_bytes(self._root) + more_bytes > self.capacity_bytes:
            raise OSError(28, "No space left on device")

    def _step(self, what: str) -> None:
        self._raise_if(self._cut_now(what))

    def _cut_now(self, what: str) -> bool:
        self.operations += 1
        self.log.append(what)
        if self.refuses(what):
            raise OSError(5, "Input/output error", what)
        return self.cut_at is not None and self.operations >= self.cut_at

    def _raise_if(self, cut: bool) -> None:
        if cut:
            raise PowerCut(self.log[-1])

    def _find(self, path: Path) -> _File | _Directory | None:
        node: _File | _Directory = self._root
        for name in path.parts[1:]:
            if not isinstance(node, _Directory) or name not in node.entries:
                return None
            node = node.entries[name]
        return node

    def _directory(self, path: Path) -> _Directory:
        node = self._find(path)
        if not isinstance(node, _Directory):
            raise FileNotFoundError(2, "No such directory", str(path))
        return node

    def _file(self, path: Path) -> _File:
        node = self._find(path)
        if not isinstance(node, _File):
            raise FileNotFoundError(2, "No such file", str(path))
        return node


class _MemoryHandle(io.RawIOBase):
    """A file of a MemoryStorage, opened for writing."""

    def __init__(self, file: _File, path: Path, append: Callable[[bytes], None]) -> None:
        self.file = file
        self.path = path
        self._append = append

    def writable(self) -> bool:
        return True

    def write(self, content: object, /) -> int:
        data = bytes(content)  # type: ignore[call-overload] # any buffer, as RawIOBase promises
        self._append(data)
        return len(data)


def _after_cut(directory: _Directory, damage: Damage) -> _Directory:
    found = _Directory()
    for name, node in (directory.entries if damage.names_arrive else directory.durable).items():
        if isinstance(node, _Directory):
            found.entries[name] = _after_cut(node, damage)
        else:
            content = damage.content(node.durable, node.content)
            found.entries[name] = _File(content, content)
    found.durable = dict(found.entries)
    return found


def _used_bytes(directory: _Directory) -> int:
    return sum(
        _used_bytes(node) if isinstance(node, _Directory) else len(node.content) for node in directory.entries.values()
    )
