"""What is suspicious about the data, or about a plan that was given: read in reports, without the compiler."""

from __future__ import annotations

import msgspec


class DataWarning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One finding; `code` is stable, the words are for people."""

    code: str
    text: str
    fix: str
