"""Choosing by chance or by key: pure functions of a draw or a key."""

from __future__ import annotations

import math
from collections.abc import Sequence
from hashlib import blake2b

from ..pipeline import Job


def sticky_key(job: Job, by_key: bool) -> str:
    """What jobs that belong together have in common; empty where a job belongs with no other.

    The steps of a sequence share state that lies with one model, so they stay together under every rule.
    """
    if job.sequence is not None:
        return f"sequence {job.sequence.id}"
    return job.key if by_key else ""


def unit(*words: str) -> float:
    """A number in (0, 1) that looks uniform and is always the same for the same words."""
    digest = blake2b("\0".join(words).encode(errors="replace"), digest_size=8).digest()
    return ((int.from_bytes(digest) >> 12) + 0.5) / 2**52


def by_draw(weights: Sequence[float], draw: float) -> int:
    """Index of an arm by its weight, for a draw in [0, 1)."""
    left = draw * math.fsum(weights)
    last = 0
    for index, weight in enumerate(weights):
        if weight <= 0:
            continue
        last = index
        left -= weight
        if left < 0:
            break
    return last


def by_key(weights: Sequence[float], labels: Sequence[str], salt: str, key: str) -> int:
    """Index of an arm for a key, by weighted rendezvous hashing.

    Each arm bids `weight / -ln(u)`, u from its label and the key; the greatest bid wins with a chance proportional to
    its weight. A change of one weight moves keys to or from that arm only (Schindelhauer and Schomaker, "Weighted
    distributed hash tables", SPAA 2005, the logarithmic method).
    """
    bids = [weight / -math.log(unit(salt, label, key)) for weight, label in zip(weights, labels, strict=True)]
    return max(range(len(bids)), key=bids.__getitem__)
