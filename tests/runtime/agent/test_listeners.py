"""What the device listens on: nothing that strangers can reach without showing who they are."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from edgewright.runtime.agent.config import ConfigError, DeviceConfig, ServerSection, read_config
from edgewright.runtime.agent.listeners import bind_all, check_exposure, grpc_settings
from edgewright.runtime.agent.places import Places
from edgewright.runtime.agent.sockets import ListenFault
from edgewright.runtime.serving import BreakerSettings, ModelSettings, TlsSettings

MTLS = TlsSettings(certificate="/c", key="/k", client_ca="/a")


@pytest.fixture
def files(tmp_path: Path) -> tuple[TlsSettings, str]:
    """Certificates, and a file of tokens."""
    for name in ("certificate", "key", "ca", "tokens"):
        (tmp_path / name).write_text("content\n")
    paths = [str(tmp_path / name) for name in ("certificate", "key", "ca", "tokens")]
    return TlsSettings(certificate=paths[0], key=paths[1], client_ca=paths[2]), paths[3]


@pytest.mark.parametrize(
    ("key", "address"),
    [
        ("listen", "0.0.0.0:8000"),
        ("listen", "192.168.1.5:8000"),
        ("listen", "[::]:8000"),
        ("listen", "board.local:8000"),
        ("listen", "[fe80::1%eth0]:8000"),
        ("admin_listen", "0.0.0.0:8002"),
        ("grpc", "0.0.0.0:8001"),
    ],
)
def test_address_that_others_reach_needs_a_token_or_client_certificates(key: str, address: str) -> None:
    config = msgspec.convert({key: address}, DeviceConfig)
    with pytest.raises(ConfigError, match=f"{key} is .*token_file.*client_ca.*127.0.0.1"):
        check_exposure(config)
    server_side_only = TlsSettings(certificate="/c", key="/k")
    with pytest.raises(ConfigError):
        check_exposure(replace(config, tls=server_side_only))
    check_exposure(replace(config, token_file="/t"))
    check_exposure(replace(config, tls=MTLS))


@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.9.9.9:1", "[::1]:8000", "localhost:80"])
def test_loopback_needs_nothing(address: str) -> None:
    check_exposure(DeviceConfig(listen=address, admin_listen=address, grpc=address))
    check_exposure(DeviceConfig(grpc="unix:/run/grpc.sock"))


def test_nonsense_is_refused_by_its_key() -> None:
    with pytest.raises(ConfigError, match="admin_listen is 'nonsense'"):
        check_exposure(DeviceConfig(admin_listen="nonsense"))


def test_missing_or_empty_file_is_found_before_anything_is_bound(
    tmp_path: Path, files: tuple[TlsSettings, str]
) -> None:
    tls, tokens = files
    Path(tokens).write_text("\n")
    with pytest.raises(ConfigError, match=r"token_file: .* is empty; it must hold one token a line"):
        bind_all(DeviceConfig(tls=tls, token_file=tokens), Places(state=tmp_path), patience_s=0.0)
    Path(tls.key).unlink()
    with pytest.raises(ConfigError, match=r"tls\.key: .* cannot be read: No such file"):
        bind_all(DeviceConfig(tls=tls), Places(state=tmp_path), patience_s=0.0)


def test_sockets_their_kinds_and_modes(tmp_path: Path, files: tuple[TlsSettings, str]) -> None:
    tls, tokens = files
    places = Places(state=tmp_path)
    places.run.mkdir()
    config = DeviceConfig(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", token_file=tokens, tls=tls)
    held = bind_all(config, places, patience_s=0.0)
    assert [each.kind for each in held] == ["data", "admin", "data", "admin", "tensors"]
    assert [each.settings().token_file for each in held] == [tokens, tokens, None, None, None]
    assert [each.settings().tls for each in held] == [tls, tls, None, None, None]
    for path in (places.server_socket, places.admin_socket, places.tensors_socket):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert held[0].address.startswith("127.0.0.1:")
    for each in held:
        each.socket.close()
    without = DeviceConfig(listen="127.0.0.1:0", server=ServerSection(tensors=False, admin=False))
    held = bind_all(without, places, patience_s=0.0)
    assert [(each.kind, each.socket.family) for each in held] == [
        ("data", socket.AF_INET),
        ("data", socket.AF_UNIX),
    ]
    for each in held:
        each.socket.close()


def test_whole_configuration_is_read_and_files_are_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "device.toml"
    path.write_text(
        """
listen = "0.0.0.0:8000"
admin_listen = "127.0.0.1:8002"
grpc = "127.0.0.1:8001"
token_file = "tokens"
[tls]
certificate = "server.pem"
key = "/etc/server.key"
[server]
access_log = true
log_format = "json"
tensors = false
[models.kws]
isolation = "worker"
threads = 2
timeout_ms = 50.0
[models.kws.breaker]
failures = 2
"""
    )
    config = read_config(path)
    assert config.token_file == str(tmp_path / "tokens")
    assert config.tls == TlsSettings(certificate=str(tmp_path / "server.pem"), key="/etc/server.key")
    assert config.server == ServerSection(access_log=True, log_format="json", tensors=False)
    assert config.models["kws"] == ModelSettings(
        isolation="worker", threads=2, timeout_ms=50.0, breaker=BreakerSettings(failures=2)
    )
    grpc = grpc_settings(config)
    assert grpc is not None
    assert (grpc.address, grpc.token_file) == ("127.0.0.1:8001", str(tmp_path / "tokens"))
    check_exposure(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("listn = 1", "unknown field `listn`; its keys are target, "),
        ("listen = 1", r"listen: Expected `str`, got `int`$"),
        ("[models.kws]\nthread = 2", "models.kws: .*`thread`; its keys are isolation, "),
        ("[models.a]\n[models.kws]\nthreads = 0", r"models\.kws\.threads: Expected `int` >= 1$"),
        ("[models.kws.breaker]\nopen = 2", r"models\.kws\.breaker: .*`open`; its keys are failures, "),
        ("[server]\nlog = 1", "server: .*`log`; its keys are access_log, "),
        ("[power]\nhot_c = 80\ncool_c = 90", r"power: cool_c is 90; expected a temperature below hot_c$"),
        ("[tls]\nkey = 'x'", "tls: .*missing.*`certificate`; its keys are certificate, key, client_ca$"),
        ("[models]\nx = 1", r"models\.x: Expected `object`, got `int`$"),
        ("models = 1", r"models: Expected `object`, got `int`$"),
    ],
)
def test_unknown_keys_and_values_out_of_range_name_their_place(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "device.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"device\.toml: .*{expected}"):
        read_config(path)


@pytest.mark.parametrize("key", ["listen", "admin_listen", "grpc"])
def test_an_address_that_is_taken_is_told_by_its_key(tmp_path: Path, key: str) -> None:
    """gRPC's too, which the server binds itself: it would end at each start."""
    places = Places(state=tmp_path)
    places.run.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config = msgspec.convert({"listen": "127.0.0.1:0", key: taken}, DeviceConfig)
        with pytest.raises(ListenFault, match=f"cannot listen on {taken}: the address is in use.*`{key}`"):
            bind_all(config, places, patience_s=0.0)
