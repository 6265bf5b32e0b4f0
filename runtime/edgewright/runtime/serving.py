"""How a device serves: what `device.toml` says of models, listeners and the server, and what the agent hands on.

Pure data without numpy: the agent reads it, the server acts on it. Every default suits a board with 1 GB of memory.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Milliseconds = Annotated[float, Meta(gt=0, le=3_600_000)]
SizeBytes = Annotated[int, Meta(ge=0, le=2**40)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Immutable, keyword-only, and unknown keys are refused."""


class BreakerSettings(Settings, frozen=True, kw_only=True):
    """When a model that fails is left alone for a while."""

    failures: Annotated[int, Meta(ge=1)] = 5
    """Failed executions in a row that open the breaker."""
    open_s: Annotated[float, Meta(gt=0, le=3600)] = 1.0
    """First pause before one request is let through to try; doubles up to `max_open_s`."""
    max_open_s: Annotated[float, Meta(gt=0, le=24 * 3600)] = 60.0


class ModelSettings(Settings, frozen=True, kw_only=True):
    """`[models.NAME]` of device.toml."""

    isolation: Literal["shared", "worker"] = "shared"
    """`worker`: a process of its own, for drivers that hang or crash."""
    swap: Literal["beside", "replace"] = "beside"
    """What happens where a new version does not fit into memory beside the old one. `beside`: it is refused. `replace`:
    the old one is freed first, and requests are told 503 until the new one is loaded; if that fails there is none."""
    threads: Annotated[int, Meta(ge=1, le=256)] | None = None
    """Threads of one inference; None takes what the bundle says."""
    max_batch_rows: Annotated[int, Meta(ge=1, le=4096)] = 32
    queue_jobs: Annotated[int, Meta(ge=1)] = 1024
    queue_bytes: SizeBytes = 64 * 1024 * 1024
    timeout_ms: Milliseconds | None = None
    """A job that has not begun so long after its arrival is answered 504; a request may ask for less."""
    execution_timeout_ms: Milliseconds = 10_000.0
    """An execution that takes longer counts as hung; a worker process is then killed."""
    shed_after_ms: Milliseconds = 25.0
    """Where jobs keep waiting longer than this, new ones are shed (503)."""
    max_sequences: Annotated[int, Meta(ge=1, le=2**20)] = 256
    """Of a model with implicit state: sequences whose state is kept; beyond it the one that is longest unused goes."""
    sequence_idle_s: Annotated[float, Meta(gt=0)] = 60.0
    """A sequence without a step for so long is forgotten."""
    cache_bytes: SizeBytes = 0
    """Answers that are kept, for identical requests; 0 keeps none."""
    cache_ttl_s: Annotated[float, Meta(gt=0)] = 60.0
    coalesce: bool = False
    """Identical requests that are under way at one time are executed once."""
    breaker: BreakerSettings = BreakerSettings()


class PowerSettings(Settings, frozen=True, kw_only=True):
    """`[power]` of device.toml: when to save, and what that means. Without a threshold nothing is ever saved."""

    hot_c: Annotated[float, Meta(ge=0, le=150)] | None = None
    """From this temperature of the hottest sensor on the board counts as hot."""
    cool_c: Annotated[float, Meta(ge=0, le=150)] | None = None
    """Down to this it stays hot; None is 10 degrees below `hot_c`."""
    on_throttle: bool = False
    """Whether it also counts as hot while the processor is slowed down for heat."""
    min_charge: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Below this a battery that discharges counts as low: 0.2 is a fifth."""
    hold_s: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """Saving goes on for so long at least."""
    saving_batch_rows: Annotated[int, Meta(ge=1)] | None = None
    """Rows of a batch while saving, at most."""
    saving_cpus: Annotated[int, Meta(ge=1)] | None = None
    """Processors that the server's threads may use while saving."""

    def __post_init__(self) -> None:
        if self.cool_c is not None and (self.hot_c is None or self.cool_c >= self.hot_c):
            raise ValueError(f"cool_c is {self.cool_c:g}; expected a temperature below hot_c")

    @property
    def cool_below_c(self) -> float:
        """Where heat ends."""
        if self.cool_c is not None:
            return self.cool_c
        return 1000.0 if self.hot_c is None else self.hot_c - 10

    @property
    def watches(self) -> bool:
        """Whether anything could lead to saving."""
        return self.hot_c is not None or self.on_throttle or self.min_charge > 0


class TlsSettings(Settings, frozen=True, kw_only=True):
    """Paths of PEM files. With `client_ca` only clients that it has signed are let in (mTLS)."""

    certificate: str
    key: str
    client_ca: str | None = None


class ListenerSettings(Settings, frozen=True, kw_only=True):
    """One listening socket that the server inherits."""

    fd: int
    kind: Literal["data", "admin", "tensors"] = "data"
    """`data`: the V2 protocol. `admin`: that, and what changes the server. `tensors`: shared memory, Unix sockets."""
    tls: TlsSettings | None = None
    token_file: str | None = None
    """One token a line; a request must carry one of them (`Authorization: Bearer …`)."""
    uids: tuple[int, ...] = ()
    """Of a `tensors` listener: users who may connect, beside root and the one who runs the server."""


class GrpcSettings(Settings, frozen=True, kw_only=True):
    """The gRPC port; it belongs to the server process and is bound anew by each."""

    address: str
    """`host:port` or `unix:/path`."""
    admin: bool = False
    """Whether RepositoryModelLoad and the like are served there."""
    tls: TlsSettings | None = None
    token_file: str | None = None


class ServerSettings(Settings, frozen=True, kw_only=True):
    """What a server process is started with, as one JSON argument."""

    listeners: tuple[ListenerSettings, ...]
    counters_dir: str
    boot: str
    window_s: Annotated[int, Meta(ge=1)] = 60
    emulated: bool = False
    power: PowerSettings = PowerSettings()
    sysfs: str = "/sys"
    """Where temperatures, clocks, batteries and energy are read."""
    grpc: GrpcSettings | None = None
    access_log: bool = False
    log_format: Literal["text", "json"] = "text"
    black_box: str | None = None
    """File in which the server notes what it executes; the agent reads it after a crash."""
    paused: bool = False
    """Accept nothing until the agent says `Accept`: the models of a server that takes over are loaded first."""


def encode_settings(settings: ServerSettings) -> str:
    """Return the settings as one argument of a command line."""
    return msgspec.json.encode(settings).decode()


def decode_settings(text: str) -> ServerSettings:
    """Return the settings; raises `msgspec.DecodeError` (or its ValidationError) where it is none."""
    return msgspec.json.decode(text, type=ServerSettings)
