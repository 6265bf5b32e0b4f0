"""Header compression (RFC 7541).

Decoding is the library's. A client repeats its heads: a block that has left the dynamic table as it was means the same
when it comes again, until the table changes. Such blocks are remembered by their bytes, with the head they gave.

Encoding uses no dynamic table and no Huffman code: a server's heads are short, and many of them are always the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hpack import Decoder
from hpack.exceptions import HPACKError
from hpack.table import HeaderTable

from .faults import Code, ConnectionFault
from .field_rules import check_request
from .stream import Fields

_REMEMBERED_BYTES = 64 * 1024
"""Of one client, with the heads as they are expanded: a block of a few bytes can name the dynamic table many times."""
_ENCODED = 64
_ENCODED_BLOCK_BYTES = 1024
_FIELD_OVERHEAD_BYTES = 32
"""RFC 7541, section 4.1."""
_OBJECT_BYTES = 128
"""What two short strings in a tuple take beside their letters."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request that keeps the rules."""

    fields: Fields
    content_length: int | None


class HeaderDecoder:
    """The client's side of compression; its blocks have to come here in their order, all of them."""

    def __init__(self, head_bytes: int, headers: int, decodes: Callable[[int], None]) -> None:
        """`decodes` is told how many bytes have to be decoded; it may raise `ConnectionFault`."""
        self._head_bytes = head_bytes
        self._headers = headers
        # Twice the limit: what is only a little too large must not cost the connection.
        self._decoder = Decoder(max_header_list_size=2 * head_bytes)
        self._decodes = decodes
        self._heads: dict[bytes, Head] = {}
        self._remembered_bytes = 0

    def request(self, block: bytes) -> Head | None:
        """Return the head of a request; None where it is too large.

        Raises:
            ConnectionFault: no valid HPACK, or far too large.
            StreamFault: the request is malformed.
        """
        head = self._heads.get(block)
        if head is not None:
            return head
        before = self._table()
        fields = self.fields(block)
        if fields is None:
            return None
        head = Head(fields, check_request(fields))
        if self._unchanged(before):
            self._remember(block, head)
        return head

    def _remember(self, block: bytes, head: Head) -> None:
        size = len(block) + self._size(head.fields) + _OBJECT_BYTES * (len(head.fields) + 2)
        if self._remembered_bytes + size > _REMEMBERED_BYTES:
            self._forget()
        if size <= _REMEMBERED_BYTES:
            self._remembered_bytes += size
            self._heads[block] = head

    def _forget(self) -> None:
        self._heads.clear()
        self._remembered_bytes = 0

    def fields(self, block: bytes) -> Fields | None:
        """Return the fields of any block; None where they are too large.

        Raises:
            ConnectionFault: no valid HPACK, or far too large.
        """
        self._decodes(len(block))
        before = self._table()
        try:
            # The library's own kind of tuple is slower to take apart.
            fields = tuple((name, value) for name, value in self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "header block that is no HPACK, or far too large") from error
        if not self._unchanged(before):
            self._forget()
        if len(fields) > self._headers or self._size(fields) > self._head_bytes:
            return None
        return fields

    @staticmethod
    def _size(fields: Fields) -> int:
        return sum(len(name) + len(value) + _FIELD_OVERHEAD_BYTES for name, value in fields)

    def _table(self) -> tuple[object, int, int]:
        """Return what tells whether the table has changed: each entry is a new object, at the left."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return entries[0] if entries else None, len(entries), table.maxsize

    def _unchanged(self, before: tuple[object, int, int]) -> bool:
        now = self._table()
        return now[0] is before[0] and now[1:] == before[1:]


_INDEXED = {field: index for index, field in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1))) if field[1]}
_NAMES = {name: index for index, (name, _) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_encoded: dict[Fields, bytes] = {}


def encode(fields: Fields) -> bytes:
    """Return a header block that no dynamic table is needed for; names are in lower case."""
    key = tuple(fields)
    block = _encoded.get(key)
    if block is None:
        block = b"".join([_encode_field(name, value) for name, value in key])
        if len(block) <= _ENCODED_BLOCK_BYTES:
            if len(_encoded) >= _ENCODED:
                _encoded.clear()
            _encoded[key] = block
    return block


def _encode_field(name: bytes, value: bytes) -> bytes:
    index = _INDEXED.get((name, value))
    if index is not None:
        return _integer(index, 7, 0x80)
    index = _NAMES.get(name)
    # Literal without indexing, section 6.2.2.
    begin = _integer(index, 4, 0) if index is not None else b"\x00" + _integer(len(name), 7, 0) + name
    return begin + _integer(len(value), 7, 0) + value


def _integer(value: int, prefix_bits: int, first: int) -> bytes:
    """RFC 7541, section 5.1."""
    most = (1 << prefix_bits) - 1
    if value < most:
        return bytes((first | value,))
    encoded = bytearray((first | most,))
    value -= most
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
