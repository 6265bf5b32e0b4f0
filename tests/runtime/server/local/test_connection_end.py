"""A client that is gone has its calls cancelled, and gives back what it held."""

from __future__ import annotations

import asyncio
import socket

from edgewright.runtime.server.http.connections import Connections
from edgewright.runtime.server.http.messages import Request, Respond
from edgewright.runtime.server.limits import DEFAULT_LIMITS
from edgewright.runtime.server.local.connection import TensorConnection
from edgewright.runtime.server.local.frames import Call, encode


def test_a_call_under_way_is_cancelled_when_its_client_goes() -> None:
    async def scenario() -> None:
        taken, gone = asyncio.Event(), asyncio.Event()

        def never_answers(request: Request, respond: Respond) -> None:
            del respond
            request.on_gone = gone.set
            taken.set()

        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connections = Connections(DEFAULT_LIMITS)
        TensorConnection(ours, never_answers, DEFAULT_LIMITS, connections).start()
        with theirs:
            theirs.send(encode(Call(1, "/v2/models/m/infer"), [b"x" * 1000]))
            await asyncio.wait_for(taken.wait(), 60)
            assert len(connections) == 1
        await asyncio.wait_for(gone.wait(), 60)
        assert len(connections) == 0
        assert connections.hold(DEFAULT_LIMITS.total_body_bytes), "nothing is held for it any more"

    asyncio.run(scenario())
