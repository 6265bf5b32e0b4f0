"""All metrics of the server, rendered when asked for: nothing here costs a request anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..state import ServerState
from .exposition import Family, exposition
from .models import model_families
from .process import process_families
from .triton import triton_families

if TYPE_CHECKING:
    from ..model_table import ModelTable


def render(table: ModelTable, state: ServerState, more: Iterable[Family] = ()) -> str:
    """Return the text. `more` are the families of parts that not every server has."""
    models = tuple(table)
    return exposition([*model_families(models), *triton_families(models), *process_families(table, state), *more])
