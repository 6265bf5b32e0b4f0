"""A client of any V2 server: numpy in, numpy out, over TCP, TLS or a Unix socket (docs/guides/client.md).

`Client` blocks and may be shared by threads; `AsyncClient` is the same for asyncio. To a server on the same machine
`Client("tensors:///PATH")` hands tensors as memory; `share` puts them there once for many calls.
"""

from .address import Tls
from .aio import AsyncClient
from .errors import AnswerTimeout, BadAnswer, ClientError, ServerRefused, Unreachable
from .inference import Result, Sequence
from .operations import Label, ModelMetadata, RepositoryEntry, ServerMetadata, TensorMetadata
from .shared import SharedTensors, share
from .sync import Client

__all__ = [
    "AnswerTimeout",
    "AsyncClient",
    "BadAnswer",
    "Client",
    "ClientError",
    "Label",
    "ModelMetadata",
    "RepositoryEntry",
    "Result",
    "Sequence",
    "ServerMetadata",
    "ServerRefused",
    "SharedTensors",
    "TensorMetadata",
    "Tls",
    "Unreachable",
    "share",
]
