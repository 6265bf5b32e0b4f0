"""The messages of the protocol, as classes that protobuf makes of `protocol/schema.binpb`.

They live in a descriptor pool of their own: Triton's client registers the same names in protobuf's default pool, and
both must be able to live in one process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

FOLDER = Path(__file__).parent / "protocol"
SCHEMA_FILE = FOLDER / "schema.binpb"

_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(SCHEMA_FILE.read_bytes()).file:
    _pool.AddSerializedFile(_file.SerializeToString())


def message(name: str) -> Any:
    """Return the class of a message, by its name without the package `inference`."""
    return GetMessageClass(_pool.FindMessageTypeByName(name if "." in name else f"inference.{name}"))


def service(name: str) -> Any:
    """Return the descriptor of a service, by its full name."""
    return _pool.FindServiceByName(name)
