"""What a request must be to fit a model, in words that are the same in REST and in gRPC."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from ..limits import Limits
from ..pipeline import Signature
from ..refusal import Refusal
from .tensors import element_count


def check_input(
    signature: Signature, name: str, datatype: str, shape: Sequence[int], limits: Limits
) -> tuple[int, ...]:
    """Return the shape of an input that a client announces.

    Raises:
        Refusal: the model has no such input, or another datatype or shape there, or the tensor would be too large.
    """
    spec = signature.inputs.get(name)
    if spec is None:
        raise Refusal(400, f"unknown input '{name[:200]}'; the model has inputs {list(signature.inputs)}")
    if datatype != spec.datatype:
        raise Refusal(400, f"input '{name}': datatype '{datatype[:20]}', expected '{spec.datatype}'")
    got = tuple(shape)
    fits = len(got) == len(spec.shape) and all(
        size > 0 if want == -1 else size == want for size, want in zip(got, spec.shape, strict=True)
    )
    if not fits:
        raise Refusal(400, f"input '{name}': shape {list(got)[: limits.rank]}, expected {list(spec.shape)}")
    element_count(got, spec.datatype, limits.body_bytes, name)
    return got


def check_complete(signature: Signature, given: Container[str]) -> None:
    """Refuse a request that leaves out an input."""
    missing = [name for name in signature.inputs if name not in given]
    if missing:
        raise Refusal(400, f"input '{missing[0]}' is missing; the model has inputs {list(signature.inputs)}")


def check_outputs(signature: Signature, names: Iterable[str]) -> None:
    """Refuse outputs that the model does not have, or that are asked for twice."""
    seen: set[str] = set()
    for name in names:
        if name not in signature.outputs:
            known = list(signature.outputs)
            raise Refusal(400, f"unknown output '{name[:200]}'; the model has outputs {known}")
        if name in seen:
            raise Refusal(400, f"output '{name}' is asked for twice")
        seen.add(name)


def batch_rows(inputs: Mapping[str, NDArray[Any]], signature: Signature) -> int:
    """Return how many samples the inputs hold; inputs with a free batch must agree."""
    return rows_of({name: array.shape for name, array in inputs.items()}, signature)


def rows_of(shapes: Mapping[str, tuple[int, ...]], signature: Signature) -> int:
    """Return how many samples inputs of these shapes hold; inputs with a free batch must agree."""
    rows = {shapes[name][0] for name, spec in signature.inputs.items() if spec.shape and spec.shape[0] == -1}
    if len(rows) > 1:
        raise Refusal(400, f"the inputs have different batch sizes: {sorted(rows)}")
    if rows:
        return rows.pop()
    return max((spec.shape[0] for spec in signature.inputs.values() if spec.shape), default=1)


_UNSERVED = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")
"""Parameters of a tensor that would change the answer; ignoring what is not served would answer another question."""

_RESERVED = "triton_"


def refuse_unserved(parameters: Mapping[str, object] | None) -> None:
    """Refuse (400) what is asked for and not served, and names that are reserved; all other names are ignored."""
    for name in parameters or ():
        if name in _UNSERVED:
            raise Refusal(400, f"the parameter '{name}' is not served here: there are no shared memory regions")
        if name.startswith(_RESERVED):
            raise Refusal(400, f"the parameter '{name[:100]}' is reserved: no name may begin with '{_RESERVED}'")
