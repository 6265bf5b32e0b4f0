"""What an experiment takes in: blocks of devices whose time is over, windows of requests that have come."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection

from .core.experiment import Experiment, Memory, as_rollout, learn
from .core.gates.control import due_blocks
from .core.gates.evidence import KnownBundle
from .core.observations import GateMemory
from .observing import blocks_of
from .references import reference_of
from .request_blocks import request_blocks
from .store import experiments, releases
from .store.roster import Roster

GRACE_S = 900.0
"""How long after its end a window of requests may still come; later ones are left out."""
SLICE_S = 3600.0
"""Windows of requests are read in pieces of so long."""


def _known(connection: Connection, experiment: Experiment) -> list[KnownBundle]:
    wanted = {bundle.digest for bundle in (*experiment.baseline, *experiment.candidate)}
    return [
        KnownBundle(digest=one.digest, target=one.target, reference=reference_of(one))
        for one in releases.every_bundle(connection)
        if one.digest in wanted
    ]


def learn_devices(connection: Connection, experiment: Experiment, memory: Memory, *, now_s: float) -> Memory:
    """Return the memory with each block whose time is over."""
    rollout = as_rollout(experiment)
    units = experiments.units_of(connection, experiment.id)
    known = _known(connection, experiment)
    roster = Roster()
    roster.refresh(connection, [rollout], now_s=now_s)
    while due := due_blocks(rollout, units, GateMemory(next_block=memory.next_block), now_s):
        found = blocks_of(connection, rollout, due, known, last_seen_s=roster.last_seen_s)
        memory = learn(experiment, memory, found)
    return memory


def learn_requests(connection: Connection, experiment: Experiment, memory: Memory, *, now_s: float) -> Memory:
    """Return the memory with each hour whose windows have had time to come."""
    known = _known(connection, experiment)
    digests = [bundle.digest for bundle in known]
    while memory.learnt_until_s < now_s - GRACE_S - SLICE_S:
        since_s = memory.learnt_until_s
        until_s = since_s + SLICE_S
        found = experiments.windows_between(connection, digests, since_s=since_s, until_s=until_s)
        blocks = request_blocks(experiment, found, known, first=memory.next_block)
        memory = msgspec.structs.replace(learn(experiment, memory, blocks), learnt_until_s=until_s)
    return memory
