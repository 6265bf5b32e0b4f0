"""What REST and gRPC stand on together."""

from __future__ import annotations

from dataclasses import dataclass

from ..limits import Limits
from ..log_settings import LogSettings
from ..model_table import ModelTable
from ..names import Names
from ..state import ServerState
from ..trace_settings import TraceSettings
from .repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The parts of one server that every protocol uses, on the event loop."""

    names: Names
    table: ModelTable
    state: ServerState
    repository: Repository
    limits: Limits
    log: LogSettings
    trace: TraceSettings
