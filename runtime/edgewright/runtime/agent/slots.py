"""The slots on disk: models/<model>/{A,B}/ and models/<model>/state.json. What to write is decided in update.py."""

from __future__ import annotations

import contextlib
from pathlib import Path

from ..storage import Storage, ensure_directory, replace_file
from .model_state import ModelState, SlotName, StateFileError, check_model_name, decode_state, encode_state

_COPY = "state.copy.json"


class SlotStore:
    """Reads and writes the state files; activation is the one atomic rename in `save`."""

    def __init__(self, storage: Storage, root: Path) -> None:
        self._storage = storage
        self._root = root
        self.damaged: list[str] = []
        """What `load_all` could not read, for the log and for `status`."""

    def load_all(self) -> dict[str, ModelState]:
        """Return the state of every model that has one."""
        ensure_directory(self._storage, self._root)
        found: dict[str, ModelState] = {}
        for name in self._storage.names(self._root):
            state = self._load(self._root / name)
            if state is not None:
                found[name] = state
        return found

    def _load(self, directory: Path) -> ModelState | None:
        """Return the state in a model's directory; one unreadable model must not keep the others from serving."""
        for name in ("state.json", _COPY):
            path = directory / name
            try:
                if not self._storage.exists(path):
                    continue
                state = decode_state(self._storage.read(path), str(path))
            except StateFileError as error:
                self.damaged.append(str(error))
            except OSError as error:
                self.damaged.append(f"{path} cannot be read: {error.strerror or error}")
            else:
                if state.model == directory.name:
                    return state
                self.damaged.append(f"{path} is the state of {state.model[:100]!r}")
        return None

    def save(self, state: ModelState) -> None:
        """Write a model's state; returns when it is durable."""
        directory = self._root / check_model_name(state.model)
        ensure_directory(self._storage, directory)
        content = encode_state(state)
        replace_file(self._storage, directory / "state.json", content)
        # Only for a medium that loses what it had stored: the copy need be neither durable nor there.
        with contextlib.suppress(OSError):
            self._storage.write(directory / _COPY, content)

    def directory(self, model: str, slot: SlotName) -> Path:
        """Return where a slot's bundle is unpacked."""
        return self._root / check_model_name(model) / slot

    def clear(self, model: str, slot: SlotName) -> None:
        """Empty a slot."""
        directory = self.directory(model, slot)
        ensure_directory(self._storage, directory.parent)
        # A power cut in the middle of an unpacking leaves a `.A.partial`.
        for leftover in (directory, directory.with_name(f".{slot}.partial")):
            if self._storage.exists(leftover):
                self._storage.remove_tree(leftover)
