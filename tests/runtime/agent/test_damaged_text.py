"""One damaged byte in a text: the files of the agent and what is said to it fail as damaged, not as something else.

msgspec tells text that is no UTF-8 by a `UnicodeDecodeError`, which is no `DecodeError` of its own.
"""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

import pytest

from edgewright.runtime.agent.breaker_memory import BreakerMemory
from edgewright.runtime.agent.control_socket import ControlSocket
from edgewright.runtime.agent.link_memory import LinkMemory
from edgewright.runtime.agent.model_state import StateFileError, decode_state
from edgewright.runtime.server.recorder import Counted, CounterStore, Recorder
from edgewright.runtime.storage import LocalStorage
from edgewright.runtime.telemetry.counters import CounterFileError, read_counters
from tests.runtime.fuzzing import fuzz

WRONG = b'{"format": 1, "model": "\xff", "fleet": "\xff", "epoch": 3, "memories": [{"model": "\xff"}]}'


def test_files_with_a_damaged_byte(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(WRONG)
    assert list(BreakerMemory(LocalStorage(), path)) == []
    assert LinkMemory(LocalStorage(), path, "fleet").epoch == 0
    with pytest.raises(StateFileError, match="damaged"):
        decode_state(WRONG, "state.json")


def test_a_counter_file_with_a_damaged_name(tmp_path: Path) -> None:
    Recorder(
        CounterStore(tmp_path, "boot", "run", 60),
        Counted(model="kwskws", version="1", bundle="b", reference="r", histogram_sizes=(3,)),
    ).record(1.0, (5,), rows=1)
    (path,) = tmp_path.glob("*.counters")
    sound = path.read_bytes()
    path.write_bytes(sound.replace(b"kwskws", b"kws\xffws"))
    with pytest.raises(CounterFileError, match="identity"):
        read_counters(path, writer_alive=True)

    def check(chance: random.Random) -> None:
        damaged = bytearray(sound)
        for _ in range(chance.randrange(1, 4)):
            damaged[chance.randrange(min(400, len(damaged)))] = chance.randrange(256)
        path.write_bytes(bytes(damaged[: chance.choice([len(damaged), chance.randrange(len(damaged))])]))
        try:
            read_counters(path, writer_alive=chance.random() < 0.5)
        except CounterFileError as error:
            assert str(path) in str(error)  # noqa: PT017 - most are refused, and some are not

    fuzz(check, 1)


def test_a_command_that_is_no_text(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as connection:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        ControlSocket(listener, {}).start()
        connection.settimeout(60)
        connection.connect(str(tmp_path / "control"))
        connection.sendall(b'{"op": "\xff"}\n')
        answer = json.loads(connection.makefile("rb").readline())
        listener.shutdown(socket.SHUT_RDWR)
    assert (answer["kind"], answer["error"][:13]) == ("user", "not a request")
