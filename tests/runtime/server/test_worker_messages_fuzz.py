"""What a worker that went wild says, a black box that was damaged, and token files of anything: no other errors."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.runtime.black_box import BlackBox, read_black_box
from edgewright.runtime.server.http.auth import Tokens
from edgewright.runtime.server.worker.arena import TensorsTooLarge, WrongPlace, create_arena
from edgewright.runtime.server.worker.messages import ChannelError, Place, Proved, Raised, Ran, Run, receive
from tests.runtime.fuzzing import fuzz, mutated

PLACES = (Place("x", "<f4", (2, 3), 64), Place("y", "|b1", (), 128))
MESSAGES = [Run(4096, 256, PLACES), Ran(4096, PLACES), Proved(0.5, ((1, 0.5),)), Raised("ValueError", "because")]
WORDS = [
    b"\xff\xff\xff\xff",
    b"\xc1",
    b"\xd9\xff",
    b"\xdd\xff\xff\xff\xff",
    b"\x91" * 3000,
    b"run",
    b"\xa4\xff\xfe\x00\x00",
]
LANE_WORDS = [b"\xff" * 8, b"\0" * 64, b"EWBLACK1"]
TOKEN_WORDS = [b"\n", b"\r", b"#", b"\0", b"\xff", b"x" * 70_000]
FIELDS = (None, b"", b"Bearer", b"Bearer ", b"bearer  ", b"Bearer #", b"Bearer \0")


def check_message(chance: random.Random) -> None:
    body = msgspec.msgpack.encode(chance.choice(MESSAGES))
    body = mutated(body, chance, WORDS)
    length = chance.choice([len(body), len(body), chance.randrange(2 * len(body) + 1), 2**32 - 1])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        theirs.sendall(struct.pack("<I", length) + body)
        theirs.close()
        with contextlib.suppress(ChannelError):
            receive(ours)


def test_damaged_messages_of_a_worker() -> None:
    fuzz(check_message, 1)


def test_a_damaged_black_box(tmp_path: Path) -> None:
    path = tmp_path / "box"
    box = BlackBox.create(path)
    for name in ("kws", "türe", "x" * 60):
        box.lane(name, "1").begin()
    sound = path.read_bytes()[:4096]

    def check(chance: random.Random) -> None:
        path.write_bytes(mutated(sound, chance, LANE_WORDS)[: chance.choice([10**6, 700, 63])])
        for executing in read_black_box(path):
            assert executing.since_ns > 0
            assert executing.model.isprintable()

    fuzz(check, 1)


def test_token_files_of_anything(tmp_path: Path) -> None:
    path = tmp_path / "tokens"

    def check(chance: random.Random) -> None:
        path.write_bytes(mutated(b"# who\nsecret\n\nother\n", chance, TOKEN_WORDS))
        path.chmod(0o600)
        with contextlib.suppress(OSError):
            tokens = Tokens(path)
            for given in (*FIELDS, chance.randbytes(20)):
                if given is None or not given.lower().removeprefix(b"bearer").strip():
                    assert not tokens.allow(given, 0.0), given
                else:
                    tokens.allow(given, 0.0)

    fuzz(check, 1)


def check_place(chance: random.Random) -> None:
    sizes = [-1, 0, 1, 2, 3, 2**31, 2**32, 2**62, 2**64]
    shape = tuple(chance.choice(sizes) for _ in range(chance.choice([0, 1, 2, 2, 40])))
    dtype = chance.choice(["<f4", ">f4", "|O", "<U9999999", "|V9", "|V0", "nonsense", "", "<f4,<f4", "<M8[s]", "O,O"])
    place = Place("x", dtype, shape, chance.choice([-64, 0, 1, 64, 4096, 2**40, 2**70]))
    arena = create_arena()
    try:
        if chance.random() < 0.8:
            arena.write({"y": np.ones(100)}, 0)
        with contextlib.suppress(WrongPlace):
            (array,) = arena.read((place,), copy=True).values()
            assert array.nbytes <= arena.size_bytes
            array.tobytes()
        with contextlib.suppress(TensorsTooLarge):
            arena.follow(chance.choice([-1, 0, 4096, 2**31, 2**70]))
            arena.follow(arena.size_bytes)
    finally:
        arena.close()


def test_places_where_no_tensor_can_be() -> None:
    fuzz(check_place, 1)


def test_sizes_that_wrap_around_are_none() -> None:
    arena = create_arena()
    with pytest.raises(WrongPlace):
        arena.read((Place("x", "<f4", (2**32, 2**32), 0),), copy=True)
    arena.close()
