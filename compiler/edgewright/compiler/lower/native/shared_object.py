"""What a shared object asks of the process that loads it: read from its ELF headers, so that nothing surprising ships.

Layout: System V ABI, chapters 4 and 5 (little-endian, 32 and 64 bits). Meant for what our own compiler has just made.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ALLOWED_SYMBOLS = frozenset({"memcpy", "memmove", "memset", "memcmp", "__stack_chk_fail", "__stack_chk_guard"})
"""What compilers call of their own accord; every C library has all of them."""

_LOAD, _GNU_STACK = 1, 0x6474E551
_EXECUTE, _WRITE = 1, 2
_SECTION_DYNAMIC, _SECTION_SYMBOLS = 6, 11
_NEEDED, _INIT, _TEXTREL, _INIT_ARRAY = 1, 12, 22, 25


@dataclass(frozen=True)
class _Class:
    """Where the fields that are read lie in the records of 32-bit or 64-bit files."""

    header: str
    segment: str
    segment_flags: int
    section: str
    dynamic: str
    symbol: str
    symbol_section: int


_CLASSES = {
    1: _Class("<16xHHIIIIIHHHHHH", "<8I", 6, "<10I", "<iI", "<IIIBBH", 5),
    2: _Class("<16xHHIQQQIHHHHHH", "<IIQQQQQQ", 1, "<IIQQQQIIQQ", "<qQ", "<IBBHQQ", 3),
}


class _Object:
    def __init__(self, content: bytes) -> None:
        if content[:4] != b"\x7fELF" or content[4] not in _CLASSES or content[5] != 1:
            raise ValueError("it is no little-endian ELF file")
        self._content = content
        self._class = _CLASSES[content[4]]
        fields = struct.unpack_from(self._class.header, content)
        segments_at, sections_at, segment_count, section_count = fields[4], fields[5], fields[9], fields[11]
        self.segments = list(self._records(self._class.segment, segments_at, segment_count))
        self._sections = list(self._records(self._class.section, sections_at, section_count))

    def _records(self, layout: str, start: int, count: int) -> Iterator[tuple[int, ...]]:
        size = struct.calcsize(layout)
        for index in range(count):
            yield struct.unpack_from(layout, self._content, start + index * size)

    def _entries(self, kind: int, layout: str) -> Iterator[tuple[tuple[int, ...], int]]:
        """Records of all sections of a kind, each with where the strings of its section lie."""
        for section in self._sections:
            if section[1] == kind:
                strings_at = self._sections[section[6]][4]
                for record in self._records(layout, section[4], section[5] // struct.calcsize(layout)):
                    yield record, strings_at

    def undefined(self) -> frozenset[str]:
        found = self._entries(_SECTION_SYMBOLS, self._class.symbol)
        return frozenset(
            self._text(strings_at + symbol[0])
            for symbol, strings_at in found
            if symbol[self._class.symbol_section] == 0 and symbol[0]
        )

    def tags(self) -> frozenset[int]:
        return frozenset(record[0] for record, _ in self._entries(_SECTION_DYNAMIC, self._class.dynamic))

    def flags(self, kind: int) -> list[int]:
        return [segment[self._class.segment_flags] for segment in self.segments if segment[0] == kind]

    def _text(self, start: int) -> str:
        return self._content[start : self._content.index(b"\0", start)].decode(errors="replace")


def undefined_symbols(path: Path) -> frozenset[str]:
    """Names that the loader has to find elsewhere.

    Raises:
        ValueError: it is no ELF file.
    """
    return _Object(path.read_bytes()).undefined()


def check_shared_object(path: Path) -> None:
    """Holds a library to what docs/formats/native.md promises.

    Raises:
        ValueError: it needs a library or a symbol, runs code when it is loaded, or has memory that may be written and
            executed.
    """
    library = _Object(path.read_bytes())
    tags = library.tags()
    foreign = library.undefined() - ALLOWED_SYMBOLS
    if foreign:
        raise ValueError(f"it calls {', '.join(sorted(foreign))}, which a device need not have")
    if _NEEDED in tags:
        raise ValueError("it needs another library")
    if tags & {_INIT, _INIT_ARRAY}:
        raise ValueError("loading it would run code")
    if _TEXTREL in tags:
        raise ValueError("the loader would have to write into its code")
    stacks = library.flags(_GNU_STACK)
    if not stacks or any(flags & _EXECUTE for flags in stacks):
        raise ValueError("its stack could be executed")
    if any(flags & _WRITE and flags & _EXECUTE for flags in library.flags(_LOAD)):
        raise ValueError("it has memory that may be written and executed")
