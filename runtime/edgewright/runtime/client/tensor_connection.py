"""One connection to a server on this machine, over which memory is shared (docs/adr/0021-local-tensors.md)."""

from __future__ import annotations

import os
import socket

from ..server.local.descriptors import receive, send
from ..server.local.frames import BadFrame
from .address import Address
from .deadline import Deadline
from .errors import AnswerTimeout, BadAnswer, Unreachable
from .http1 import Answer, Outgoing
from .tensor_messages import TensorMessages


class TensorConnection:
    """A socket of datagrams, each with a body or with the memory in which it is. Used by one thread at a time."""

    def __init__(self, address: Address, deadline: Deadline) -> None:
        """Connect.

        Raises:
            Unreachable: nobody listens there.
            AnswerTimeout: it took too long.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._messages = TensorMessages()
        try:
            self._socket.settimeout(deadline.left_s())
            self._socket.connect(address.path or "")
        except TimeoutError as error:
            self._socket.close()
            raise AnswerTimeout(f"{address} could not be connected to in time") from error
        except OSError as error:
            self._socket.close()
            raise Unreachable(f"{address} could not be connected to: {error}", sent=False) from error

    @property
    def used(self) -> bool:
        """Whether an answer has come over it before."""
        return self._messages.used

    @property
    def usable(self) -> bool:
        """False where the server has closed it, or has said what nobody asked."""
        try:
            self._socket.setblocking(False)
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        self._socket.close()

    def exchange(self, request: Outgoing, deadline: Deadline) -> Answer:
        """Send a request and return the answer.

        Raises:
            Unreachable: the connection ended.
            AnswerTimeout: it took too long.
            BadAnswer: what came is no answer.
            ValueError: the name of the model is too long for a message.
            OSError: no memory or descriptor is left for the tensors.
        """
        message, descriptor = self._messages.spell(request)
        try:
            refused = self._send(message, descriptor, deadline)
            self._socket.settimeout(deadline.left_s())
            received = receive(self._socket)
        except TimeoutError as error:
            raise AnswerTimeout("the server did not answer in time") from error
        except BadFrame as error:
            raise BadAnswer(f"the answer is none: {error}") from error
        except OSError as error:
            raise Unreachable(f"the connection ended before the answer did: {error}", sent=True) from error
        if not received.data:
            raise Unreachable("the server closed the connection before it answered", sent=not refused)
        return self._messages.answer(received)

    def _send(self, message: bytes, descriptor: int | None, deadline: Deadline) -> bool:
        """Send a request; true where the server had closed before it was sent, and may have said why."""
        try:
            self._socket.settimeout(deadline.left_s())
            send(self._socket, message, descriptor)
        except BrokenPipeError:
            return True
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return False
