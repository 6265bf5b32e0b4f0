"""A word with a colour: how good or bad a thing is, at a glance."""

from __future__ import annotations

from typing import Literal

import msgspec

Tone = Literal["good", "busy", "warn", "bad", "calm", "control", "faint"]


class Chip(msgspec.Struct, frozen=True, kw_only=True):
    """A word with a colour."""

    text: str
    tone: Tone
