"""The highest epoch of the desired state that this device has acted on: STATE/link.json. It only grows."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from ..storage import Storage, replace_file

_log = logging.getLogger(__name__)


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    fleet: str
    epoch: int


class LinkMemory:
    """Belongs to one enrolment: another fleet, tenant or device id starts from zero."""

    def __init__(self, storage: Storage, path: Path, fleet: str) -> None:
        self._storage = storage
        self._path = path
        self._fleet = fleet
        self.epoch = 0
        if storage.exists(path):
            try:
                content = msgspec.json.decode(storage.read(path), type=_Content)
            except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
                _log.error("%s is damaged, the epoch starts from zero: %s", path, error)
            else:
                self.epoch = content.epoch if content.fleet == fleet else 0

    def raise_epoch(self, epoch: int) -> bool:
        """Remember an epoch before it is acted on; False where the disk refuses."""
        if epoch <= self.epoch:
            return True
        try:
            replace_file(self._storage, self._path, msgspec.json.encode(_Content(fleet=self._fleet, epoch=epoch)))
        except OSError as error:
            _log.error("cannot write %s, the desired state waits: %s", self._path, error)
            return False
        self.epoch = epoch
        return True
