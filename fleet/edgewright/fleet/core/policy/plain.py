"""Whether plain data can be written down again."""

from __future__ import annotations

import json
from typing import Any

HALF_A_CHARACTER = 'half of a character (a lone surrogate, as in "\\ud800") is no text; write the whole one'
"""What to say about data that are not."""


def is_writable(data: Any) -> bool:
    """Tell whether every text in plain data is whole Unicode.

    JSON can spell half of a character (a lone surrogate, U+D800): Python reads it, but can neither store it nor
    send it, and whatever quotes it in an error fails in turn.
    """
    try:
        json.dumps(data, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return False
    return True
