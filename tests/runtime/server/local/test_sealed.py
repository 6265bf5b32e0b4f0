"""Shared memory that can be trusted, and descriptors that cannot."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import mmap
import os
import resource
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.local.descriptors import peer_uid, receive, send
from edgewright.runtime.server.local.frames import MESSAGE_BYTES, BadFrame, Call, Reply, decode, encode
from edgewright.runtime.server.local.sealed import SEALS, NotSealed, map_sealed, sealed_memory

SIZE = 3 * mmap.PAGESIZE


def memfd(seals: int, size: int = SIZE, filled: int | None = None) -> int:
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.write(descriptor, bytes(size if filled is None else filled))
    os.truncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def plain_file() -> int:
    with tempfile.TemporaryFile() as file:
        file.write(bytes(SIZE))
        file.flush()
        return os.dup(file.fileno())


def in_shared_memory() -> int:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        file.write(bytes(SIZE))
        file.flush()
        return os.dup(file.fileno())


def pipe() -> int:
    reading, writing = os.pipe()
    os.close(writing)
    return reading


def a_socket() -> int:
    return socket.socket().detach()


HOSTILE: dict[str, Callable[[], int]] = {
    "a file": plain_file,
    "a file in /dev/shm": in_shared_memory,
    "a pipe": pipe,
    "a socket": a_socket,
    "a directory": lambda: os.open("/", os.O_RDONLY),
    "/dev/zero": lambda: os.open("/dev/zero", os.O_RDWR),
    "/proc/self/mem": lambda: os.open("/proc/self/mem", os.O_RDONLY),
    "an empty memfd": lambda: memfd(SEALS, 0),
    "no seals": lambda: memfd(0),
    "no sealing allowed": lambda: _sized(os.memfd_create("test")),
    "may shrink": lambda: memfd(SEALS & ~fcntl.F_SEAL_SHRINK),
    "may grow": lambda: memfd(SEALS & ~fcntl.F_SEAL_GROW),
    "may be written": lambda: memfd(SEALS & ~fcntl.F_SEAL_WRITE),
    "a byte too short": lambda: memfd(SEALS, SIZE - 1),
    "a hole": lambda: memfd(SEALS, SIZE, filled=0),
    "a hole at the end": lambda: memfd(SEALS, SIZE, filled=SIZE - 1 - mmap.PAGESIZE),
    "a hole behind what is mapped": lambda: memfd(SEALS, SIZE + mmap.PAGESIZE, filled=SIZE),
}


def _sized(descriptor: int) -> int:
    os.truncate(descriptor, SIZE)
    return descriptor


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_is_mapped_that_others_can_change(name: str) -> None:
    descriptor = HOSTILE[name]()
    try:
        with pytest.raises(NotSealed):
            map_sealed(descriptor, SIZE)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("size", [0, -1, SIZE + 1, 2**40, 2**62])
def test_sizes_that_are_not_there(size: int) -> None:
    descriptor = memfd(SEALS)
    with pytest.raises(NotSealed, match=f"holds {SIZE}"):
        map_sealed(descriptor, size)
    os.close(descriptor)


def test_memory_is_the_senders_and_not_that_of_whoever_reads_it() -> None:
    """Each page of a hole that is read would be taken for good, for as long as the sender keeps the file."""
    descriptor = memfd(SEALS, 64 * 1024 * 1024, filled=0)
    with pytest.raises(NotSealed, match="holes"):
        map_sealed(descriptor, 64 * 1024 * 1024)
    assert os.fstat(descriptor).st_blocks == 0
    os.close(descriptor)


def test_a_memfd_that_is_mapped_for_writing_cannot_be_sealed_and_is_refused() -> None:
    """The kernel refuses F_SEAL_WRITE while somebody could still write."""
    descriptor = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, SIZE)
    with mmap.mmap(descriptor, SIZE):
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        with pytest.raises(NotSealed):
            map_sealed(descriptor, SIZE)
    os.close(descriptor)


@given(st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6))
def test_what_is_sealed_is_read_and_stays(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    descriptor = sealed_memory(parts)
    try:
        view = map_sealed(descriptor, len(whole))
        assert bytes(view) == whole
        assert view.readonly
        for change in (
            lambda: os.truncate(descriptor, 0),
            lambda: os.truncate(descriptor, len(whole) + 1),
            lambda: os.pwrite(descriptor, b"x", 0),
            lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL),
        ):
            with pytest.raises(PermissionError):
                change()
    finally:
        os.close(descriptor)


def test_what_the_reader_lacks_is_not_the_senders_fault() -> None:
    """A mapping keeps a descriptor; without one left the client is told to come again, not that it was wrong."""
    descriptor = sealed_memory([b"x" * SIZE])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            map_sealed(descriptor, SIZE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(descriptor)


def mappings() -> int:
    return Path("/proc/self/maps").read_text().count("edgewright-tensors")


def test_a_mapping_goes_with_the_last_view() -> None:
    descriptor = sealed_memory([b"x" * SIZE])
    gc.collect()
    before = mappings()
    view = map_sealed(descriptor, SIZE)
    os.close(descriptor)
    part = view[100:200]
    del view
    assert mappings() == before + 1
    del part
    assert mappings() == before


CALLS = st.builds(
    Call,
    st.integers(1, 2**53 - 1),
    st.text(max_size=100),
    st.integers(0, 2**40),
    st.none() | st.integers(0, 2**40),
    st.text(max_size=16),
)


@given(CALLS, st.binary(max_size=100))
def test_messages_come_back(call: Call, body: bytes) -> None:
    envelope, inline = decode(encode(call, [body]), Call)
    assert (envelope, bytes(inline)) == (call, body)


@given(CALLS, st.binary(max_size=40), st.data())
def test_damaged_messages_are_refused_or_read(call: Call, body: bytes, data: st.DataObject) -> None:
    message = bytearray(encode(call, [body]))
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadFrame):
        decode(bytes(message[: data.draw(st.integers(0, len(message)))]), Call)


@given(st.binary(max_size=200))
def test_arbitrary_messages(message: bytes) -> None:
    with contextlib.suppress(BadFrame):
        decode(message, Call)
    with contextlib.suppress(BadFrame):
        decode(message, Reply)


def test_an_envelope_that_does_not_fit() -> None:
    with pytest.raises(BadFrame, match="does not fit"):
        encode(Call(1, "x" * MESSAGE_BYTES))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("count", [2, 3, 10, 250])
def test_more_descriptors_than_one_are_all_closed(count: int) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(ours, [b"x"], [0] * count)
        before = open_descriptors()
        with pytest.raises(BadFrame, match="one descriptor"):
            receive(theirs)
        assert open_descriptors() == before


def test_one_descriptor_is_received_and_not_inherited() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send(ours, b"x", 0)
        received = receive(theirs)
        assert received.data == b"x"
        assert received.descriptor is not None
        assert not os.get_inheritable(received.descriptor)
        os.close(received.descriptor)
        assert peer_uid(ours) == os.getuid()


def test_a_message_that_is_too_long() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        send(ours, bytes(MESSAGE_BYTES + 1), None)
        with pytest.raises(BadFrame, match="at most"):
            receive(theirs)
