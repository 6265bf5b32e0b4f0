"""Enrolment: a one-time token is exchanged for the device's own credentials."""

from __future__ import annotations

import http.client
import urllib.parse
from typing import Any

import msgspec

from edgewright.targets.catalog import load_board
from edgewright.targets.faults import EnvironmentFault, UserFault
from edgewright.targets.host import detect_host

from .config import DeviceConfig
from .credentials import Credentials, MqttAddress
from .http_source import connect
from .report import software

_MAX_ANSWER_BYTES = 64 * 1024


class _Answer(msgspec.Struct):
    tenant: str
    device: str
    secret: str
    mqtt: MqttAddress


def enroll(fleet_url: str, token: str, name: str | None, config: DeviceConfig) -> Credentials:
    """Ask the fleet for credentials.

    Raises:
        UserFault: the address or the token is wrong.
        EnvironmentFault: the fleet cannot be reached, or answers nonsense.
    """
    url = urllib.parse.urlsplit(fleet_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise UserFault(f"--fleet is {fleet_url!r}: expected an address such as http://fleet.local:8600")
    board, machine = load_board(config.target), detect_host()
    request: dict[str, Any] = {
        "token": token,
        "target": board.name,
        "target_digest": board.digest(),
        "emulated": config.emulate,
        "software": software(),
        "isa": sorted(machine.cpu.isa) if machine.cpu else [],
    }
    if name:
        request["name"] = name
    answer = _post(url, msgspec.json.encode(request))
    # A broker that names no host is on the fleet's own machine.
    host = answer.mqtt.host if answer.mqtt.host not in ("", "0.0.0.0", "::") else url.hostname  # noqa: S104
    return Credentials(
        tenant=answer.tenant,
        device=answer.device,
        secret=answer.secret,
        mqtt=MqttAddress(host=host, port=answer.mqtt.port),
        fleet_url=fleet_url.rstrip("/"),
    )


def _post(url: urllib.parse.SplitResult, body: bytes) -> _Answer:
    connection = connect(url)
    try:
        connection.request("POST", f"{url.path.rstrip('/')}/v1/enroll", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read(_MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise EnvironmentFault(f"cannot reach the fleet at {url.geturl()}: {error}") from error
    finally:
        connection.close()
    if response.status >= 300:
        said = content[:300].decode("utf-8", "replace").strip()
        kind = UserFault if response.status < 500 else EnvironmentFault
        raise kind(f"the fleet refuses to enrol this device: {response.status} {response.reason}: {said}")
    try:
        answer = msgspec.json.decode(content, type=_Answer)
        bytes.fromhex(answer.secret)
    except (msgspec.DecodeError, ValueError) as error:
        raise EnvironmentFault(f"the fleet at {url.geturl()} answers with something else: {error}") from error
    return answer
