"""Room on disk for what a build writes before it has results: made when first needed, gone whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edgewright.targets.faults import EnvironmentFault

PREFIX = ".edgewright-compile-"


class Scratch:
    """A hidden folder inside `parent`, so on the same disk as the results; used as a context manager.

    Folders above it that it had to make, and that nothing was put into, go with it: a build that is refused leaves
    nothing.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self._made: list[Path] = []
        self._files = 0

    def folder(self) -> Path:
        """The folder as an absolute path, made now if this is the first call.

        Raises:
            EnvironmentFault: it cannot be made.
        """
        if self._folder is None:
            try:
                self._made = [path for path in (self._parent, *self._parent.parents) if not path.exists()]
                self._parent.mkdir(parents=True, exist_ok=True)
                # Absolute: Vela and TVM run in folders of theirs, and would look for a relative one there.
                self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._parent)).absolute()
            except OSError as error:
                raise EnvironmentFault(
                    f"--out {self._parent}: cannot be written: {error.strerror}. Choose another folder"
                ) from error
        return self._folder

    def new_file(self, suffix: str) -> Path:
        """A name in the folder that was not given out before; the file itself is not made.

        Raises:
            EnvironmentFault: the folder cannot be made.
        """
        self._files += 1
        return self.folder() / f".{self._files:06}{suffix}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        with suppress(OSError):  # results lie there, or it was never made
            for path in self._made:
                path.rmdir()
