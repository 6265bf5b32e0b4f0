"""Whole results of `edgewright compile` from the cache: found by everything that had a say in them.

Imports no graph library: a hit must not wait for them.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgewright.targets.board import Board
from edgewright.targets.faults import EnvironmentFault
from edgewright.targets.host import detect_host

from .cache import Cache, digest_of, digest_of_file
from .faults import EXIT_BUDGET_MISSED, EXIT_SHIPPED
from .lower.native.toolchain_choice import toolchains
from .model_files import NotProtobuf, model_files
from .publish import MEASUREMENTS, REPORT, take_names
from .report.schema import Report
from .request import Request, load_boards
from .scratch import Scratch
from .tools import optional_versions, tool_versions

KIND = "compile-result-1"
OWN_PACKAGES = ("edgewright.targets", "edgewright.bundle", "edgewright.runtime.engines", "edgewright.compiler")
"""Their sources count, not only their version: in development the version stays while the code changes."""


def result_key(request: Request) -> str | None:
    """The key of a request's result; None where code of the user has a say, or a file cannot be read.

    A file that cannot be read is for the compiler to complain about.

    Raises:
        UserFault: a target or an option is wrong.
    """
    if request.from_torch or ":" in (request.metric or ""):
        return None
    boards = load_boards(request.targets)
    try:
        return digest_of(_parts(request, boards))
    except (OSError, ValueError, NotProtobuf):
        return None


def _parts(request: Request, boards: tuple[Board, ...]) -> Iterator[str | bytes]:
    yield KIND
    yield from source_digests()
    yield msgspec.json.encode(tool_versions("onnx") | optional_versions(), order="sorted")
    yield f"{platform.python_version()} {platform.system()} {platform.release()} {platform.machine()}"
    for board in (detect_host(), *boards):
        yield msgspec.json.encode(board, order="sorted")
        yield " ".join(toolchain.version for toolchain in toolchains(board.arch))
    yield msgspec.json.encode(_options(request), order="sorted")
    for path in (*model_files(Path(request.model)), *_files(request).values()):
        yield digest_of_file(path)


def _options(request: Request) -> dict[str, object]:
    """Everything but where files lie; the model's name counts, because devices see it."""
    given = {name: value for name, value in vars(request).items() if name not in {"model", "out"}}
    marked = dict.fromkeys(_files(request), "a file")
    return {**given, **marked, "targets": len(request.targets), "model": Path(request.model).name}


def _files(request: Request) -> dict[str, Path]:
    """The files that options name."""
    return {name: value for name, value in vars(request).items() if isinstance(value, Path) and name != "out"}


def source_digests() -> Iterator[str]:
    """Digests of our own code and of the data files beside it, in a fixed order."""
    for package in OWN_PACKAGES:
        found = importlib.util.find_spec(package)
        for folder in sorted(found.submodule_search_locations or ()) if found is not None else ():
            for path in sorted(Path(folder).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path.relative_to(folder).as_posix()
                    yield digest_of_file(path)


@dataclass(frozen=True)
class Results:
    """The results that a cache holds."""

    cache: Cache

    def restore(self, key: str, out: Path) -> Report | None:
        """Writes the files of a result into `out`, as the compiler would; None where it is not known.

        Raises:
            EnvironmentFault: `out` cannot be written.
        """
        if not self.cache.has(key):
            return None
        with Scratch(out) as scratch:
            stage = scratch.folder()
            try:
                names = self.cache.get_files(key, stage)
                if names is None:
                    return None
                report = msgspec.json.decode((stage / REPORT).read_bytes(), type=Report)
                take_names(stage, out, names)
            except OSError as error:
                raise EnvironmentFault(f"--out {out}: cannot be written: {error.strerror}") from error
        return report

    def keep(self, key: str, request: Request, report: Report) -> None:
        """Keeps the files of a result, unless a target failed or an input was changed while it was made."""
        if report.exit_code not in {EXIT_SHIPPED, EXIT_BUDGET_MISSED} or result_key(request) != key:
            return
        files = [file for target in report.targets for file in target.files]
        self.cache.put_files(key, request.out, [*files, MEASUREMENTS, REPORT])
