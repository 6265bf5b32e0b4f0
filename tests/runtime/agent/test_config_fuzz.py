"""A damaged device.toml is refused in words, and soon: never with another error than `ConfigError`."""

from __future__ import annotations

import contextlib
import math
import random
import time
from pathlib import Path

import msgspec
import pytest

from edgewright.runtime.agent.config import ConfigError, DeviceConfig, parse_listen, read_config
from tests.runtime.fuzzing import fuzz, mutated

SOUND = b"""
device_id = "door-7"
listen = "127.0.0.1:8000"
probation_s = 60.0
spool_max_bytes = 65536
[models.kws]
isolation = "worker"
timeout_ms = 20.5
[models.kws.breaker]
errors = 3
[tls]
certificate = "cert.pem"
key = "key.pem"
[power]
"""
WORDS = [b"[models.a]", b"[[tls]]", b"nan", b"-inf", b"0x", b"9" * 5000, b"a." * 20, b"\xff", b"\0", b'"', b"'''", b"="]
WORDS += [name.encode() + b" = 1\n" for name in DeviceConfig.__struct_fields__]


@pytest.mark.parametrize("value", [b"9" * 5000, b"[" * 20_000, b"a." * 20_000 + b"a", b"{a=" * 10_000, b'"\\ud800"'])
def test_values_that_no_parser_takes_well(tmp_path: Path, value: bytes) -> None:
    path = tmp_path / "device.toml"
    for text in (b"listen = " + value, value + b" = 1"):
        path.write_bytes(text)
        with pytest.raises(ConfigError):
            read_config(path)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("key", ["probation_s", "heartbeat_s", "models.kws.sequence_idle_s", "models.kws.cache_ttl_s"])
def test_numbers_that_are_none(tmp_path: Path, key: str, number: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(f"{key} = {number}")
    with pytest.raises(ConfigError):
        read_config(path)


@pytest.mark.parametrize("listen", ["a:\u0663", "a:\u00b2", "a:" + "9" * 5000, "a:-1", ":1", "[]:1", "a:65536"])
def test_ports_that_are_none(listen: str) -> None:
    with pytest.raises(ConfigError):
        parse_listen(listen)


def numbers_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for inner in value.values() for number in numbers_in(inner)]
    return [value] if isinstance(value, float) else []


def test_damaged_configurations(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"

    def check(chance: random.Random) -> None:
        path.write_bytes(mutated(SOUND, chance, WORDS))
        begun_s = time.process_time()
        with contextlib.suppress(ConfigError):
            config = read_config(path)
            assert all(map(math.isfinite, numbers_in(msgspec.to_builtins(config)))), "nan passes every comparison"
        assert time.process_time() - begun_s < 2

    fuzz(check)
