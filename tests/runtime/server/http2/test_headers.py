"""Header compression: the memory of blocks may never give another head than a decoder without it."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http2.headers import HeaderDecoder, _encoded, encode
from tests.runtime.server.http2.client import REQUEST

FIELDS = st.tuples(st.sampled_from([b"x-a", b"x-b", b"cookie"]), st.sampled_from([b"1", b"2", b"3" * 900, b"4" * 4100]))
HEADS = st.lists(FIELDS, max_size=4).map(lambda fields: (*REQUEST, *fields))


STEPS = st.lists(st.tuples(HEADS, st.sampled_from([None, None, None, 50, 200, 4096])), max_size=30)


@given(STEPS)
def test_with_the_memory_it_is_the_same_as_without(
    steps: list[tuple[tuple[tuple[bytes, bytes], ...], int | None]],
) -> None:
    sizes: list[int] = []
    encoder, plain, ours = Encoder(), Decoder(), HeaderDecoder(32 * 1024, 100, sizes.append)
    for fields, table_bytes in steps:
        if table_bytes is not None:
            encoder.header_table_size = table_bytes
        block = encoder.encode(fields, huffman=bool(len(fields) % 2))
        assert tuple(plain.decode(block, raw=True)) == fields
        head = ours.request(block)
        assert head is not None
        assert head.fields == fields


ENTRIES = [b"\x40\x03x-a\x01" + bytes([value]) for value in b"123"]
BLOCKS = [
    b"\x83\x86\x84",
    b"\x83\x86\x84\xbe",
    b"\x83\x86\x84\xbf\xbe",
    b"\x20\x83\x86\x84",
    b"\x20\x3f\xe1\x1f\x83\x86\x84",
    *[b"\x83\x86\x84" + entry for entry in ENTRIES],
    b"\x83\x86\x84\x40\x03x-b\x7f\xf1\x1e" + b"a" * 4080,
]


@given(st.lists(st.sampled_from(BLOCKS), max_size=40))
def test_blocks_by_their_bytes_mean_what_the_table_says_now(blocks: list[bytes]) -> None:
    sizes: list[int] = []
    plain, ours = Decoder(), HeaderDecoder(32 * 1024, 100, sizes.append)
    for block in blocks:
        try:
            expected = tuple(plain.decode(block, raw=True))
        except Exception:  # noqa: BLE001 - an index that is not there: the connection would end
            return
        head = ours.request(block)
        assert head is not None
        assert head.fields == expected


NAMES = st.from_regex(rb"[a-z-]{1,20}", fullmatch=True) | st.sampled_from([b":status", b"content-type", b"grpc-status"])


VALUES = st.binary(max_size=300) | st.sampled_from([b"200", b"0", b"application/grpc"])


@given(st.lists(st.tuples(NAMES, VALUES), max_size=9))
def test_what_we_encode_is_what_a_client_reads(fields: list[tuple[bytes, bytes]]) -> None:
    decoder = Decoder()
    for _ in range(2):
        assert decoder.decode(encode(fields), raw=True) == fields
    assert not decoder.header_table.dynamic_entries


def test_a_head_that_comes_again_is_not_decoded_again_and_the_memory_is_bounded() -> None:
    decoded: list[int] = []
    decoder = HeaderDecoder(32 * 1024, 100, decoded.append)
    with_a_token = encode((*REQUEST, (b"authorization", b"Bearer " + b"t" * 4000)))
    first = decoder.request(with_a_token)
    assert decoder.request(with_a_token) is first
    assert decoded == [len(with_a_token)]
    for number in range(1000):
        assert decoder.request(encode((*REQUEST, (b"x-a", b"%d" % number * 100))))
        held = sum(len(block) + len(b"".join(map(b"".join, head.fields))) for block, head in decoder._heads.items())
        assert held <= 64 * 1024
    for number in range(1000):
        encode(((b"x-a", b"%d" % number),))
    assert len(_encoded) <= 64
