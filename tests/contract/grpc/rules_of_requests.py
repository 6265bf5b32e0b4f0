"""RFC 9113, section 8, and RFC 7541: what a request is, and how its head is compressed."""

from __future__ import annotations

from tests.contract.grpc.raw_http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    LIVE,
    block,
    frame,
    head,
    integer,
    message,
    request_fields,
    text,
)
from tests.contract.grpc.rules import (
    LAST,
    Rule,
    answered,
    begun,
    compression_error,
    harmless,
    malformed,
    opened,
    say,
    with_fields,
    without,
)

SPLIT = head(LIVE)

EXCHANGES = [
    Rule(
        "8.1-second-head-without-end", say(opened(LIVE), frame(HEADERS, END_HEADERS, 1, block((b"x", b"y")))), malformed
    ),
    Rule(
        "8.1-trailers",
        say(
            opened(LIVE), frame(DATA, 0, 1, message()), frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b"x", b"y")))
        ),
        answered,
    ),
    Rule(
        "8.1-pseudo-field-in-trailers",
        say(
            opened(LIVE),
            frame(DATA, 0, 1, message()),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, block((b":path", b"/"))),
        ),
        malformed,
    ),
    Rule(
        "8.1.1-content-length-too-long",
        say(frame(HEADERS, END_HEADERS, 1, head(LIVE, (b"content-length", b"9"))), LAST),
        malformed,
    ),
    Rule(
        "8.1.1-content-length-of-two-frames",
        say(
            frame(HEADERS, END_HEADERS, 1, head(LIVE, (b"content-length", b"4"))),
            frame(DATA, 0, 1, message()[:3]),
            frame(DATA, END_STREAM, 1, message()[3:]),
        ),
        malformed,
    ),
    Rule("8.1.1-content-length-that-is-right", with_fields((b"content-length", b"5")), answered),
    Rule("8.2.1-capitals", with_fields((b"X-Test", b"ok")), malformed),
    Rule("8.2.1-space-in-a-name", with_fields((b"x test", b"ok")), malformed),
    Rule("8.2.1-colon-in-a-name", with_fields((b"x:test", b"ok")), malformed),
    Rule("8.2.1-byte-above-7e-in-a-name", with_fields((b"x\xff", b"ok")), malformed),
    Rule("8.2.1-empty-name", with_fields((b"", b"ok")), malformed),
    Rule("8.2.1-zero-in-a-value", with_fields((b"x", b"a\0b")), malformed),
    Rule("8.2.1-line-feed-in-a-value", with_fields((b"x", b"a\nb")), malformed),
    Rule("8.2.1-carriage-return-in-a-value", with_fields((b"x", b"a\rb")), malformed),
    Rule("8.2.1-space-before-a-value", with_fields((b"x", b" a")), malformed),
    *(
        Rule(f"8.2.2-{name.decode()}", with_fields((name, b"keep-alive")), malformed)
        for name in (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
    ),
    Rule("8.2.2-te-gzip", with_fields((b"te", b"trailers, deflate;q=0.5")), malformed),
    Rule("8.3-unknown-pseudo-field", without(first=((b":test", b"ok"),)), malformed),
    Rule("8.3-status-in-a-request", without(first=((b":status", b"200"),)), malformed),
    Rule("8.3-pseudo-field-at-the-end", say(begun(block(*request_fields(LIVE)[1:], (b":method", b"POST")))), malformed),
    Rule("8.3.1-empty-path", say(begun(head(b""))), malformed),
    *(
        Rule(f"8.3.1-without-{name.decode()[1:]}", without(name), malformed)
        for name in (b":method", b":scheme", b":path")
    ),
    *(
        Rule(f"8.3.1-twice-{pair[0].decode()[1:]}", without(first=(pair,)), malformed)
        for pair in ((b":method", b"POST"), (b":scheme", b"http"), (b":path", LIVE), (b":authority", b"localhost"))
    ),
    Rule("8.3.1-without-authority", without(b":authority"), answered),
    Rule("8.5-connect", say(begun(block((b":method", b"CONNECT"), (b":authority", b"a:1")))), harmless),
]

HUFFMAN_ZEROES = b"\0\x01x\x81\x18"
"""`a` (00011) in Huffman's code, filled up with zeroes."""
HUFFMAN_LONG = b"\0\x01x\x82\x1f\xff"
"""`a` and 11 bits of padding."""
HUFFMAN_END = b"\0\x01x\x84\xff\xff\xff\xff"
"""The symbol for the end, which no text has."""

COMPRESSION = [
    Rule("hpack-2.3.3-index-beyond-the-tables", say(begun(SPLIT + integer(70, 7, 0x80))), compression_error),
    Rule(
        "hpack-2.3.3-name-beyond-the-tables", say(begun(SPLIT + integer(70, 6, 0x40) + text(b"x"))), compression_error
    ),
    Rule("hpack-4.2-size-update-at-the-end", say(begun(SPLIT + integer(1, 5, 0x20))), compression_error),
    Rule(
        "hpack-4.2-size-update-at-the-begin",
        say(frame(HEADERS, END_HEADERS, 1, integer(1, 5, 0x20) + SPLIT), LAST),
        answered,
    ),
    Rule("hpack-5.1-endless-integer", say(begun(SPLIT + b"\x7f" + b"\x80" * 100 + b"\x01")), compression_error),
    Rule("hpack-5.1-integer-that-ends-early", say(begun(SPLIT + b"\x7f\x80")), compression_error),
    Rule("hpack-5.2-padding-beyond-7-bits", say(begun(SPLIT + HUFFMAN_LONG)), compression_error),
    Rule("hpack-5.2-padding-of-zeroes", say(begun(SPLIT + HUFFMAN_ZEROES)), compression_error),
    Rule("hpack-5.2-end-of-string", say(begun(SPLIT + HUFFMAN_END)), compression_error),
    Rule("hpack-5.2-string-that-ends-early", say(begun(SPLIT + b"\0" + integer(100, 7) + b"x")), compression_error),
    Rule("hpack-6.1-index-0", say(begun(SPLIT + b"\x80")), compression_error),
    Rule("hpack-6.3-size-update-beyond-the-setting", say(begun(integer(2**20, 5, 0x20) + SPLIT)), compression_error),
]
