"""Runs Vela on a model, in a process of its own: it is native code, and may crash or never end.

What is taken from a run: the model that it wrote, its summary, and its warnings. Vela 5.2 compiles for every Ethos-U
in C++ ("regor"); its older core in Python, which worded warnings differently, is never asked for.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgewright.bundle.files import storage_faults
from edgewright.targets.board import Vela
from edgewright.targets.faults import EnvironmentFault

from ...faults import ToolchainMissing
from ..native.toolchain_process import DISK_FULL, CompilerEnded, filled_the_disk, run_all
from .faults import VelaFault

PACKAGE = "ethos-u-vela"
MODULE = "ethosu.vela"
INSTALL = "pip install 'edgewright[ethos-u]'"
FIRST, BEYOND = (5, 2), (6, 0)
"""Versions whose files and words are known."""
CONFIGURATION = "Arm/vela.ini"
"""Comes with the package; the names in `targets.board.VelaSystem` are its sections."""

LIMIT_S = 600.0
"""A network of 100 MB takes a minute."""
MAX_MODEL_BYTES = 1 << 30
MAX_LOG_BYTES = 16 << 20
MAX_QUOTED_CHARACTERS = 300

_NAME = "network"
_ERROR = "failed: Error:"
_NOISE = ("Traceback", "File ", "^", "~")


@dataclass(frozen=True)
class VelaOutput:
    """What one run left."""

    model: bytes
    summary: bytes
    log: str
    """Standard output and error, as they came."""


def vela_version() -> str:
    """The installed version.

    Raises:
        ToolchainMissing: there is none, or one that is not known to write what is read here.
    """
    try:
        if importlib.util.find_spec(MODULE) is not None:
            return checked_version(metadata.version(PACKAGE))
    except ImportError:
        pass
    raise ToolchainMissing(f"Ethos-U needs Arm's compiler Vela, which is not installed here: {INSTALL}")


def checked_version(version: str) -> str:
    """The same, if it is one of those that boards ask for.

    Raises:
        ToolchainMissing: it is not.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or not FIRST <= (int(numbers[1]), int(numbers[2])) < BEYOND:
        wanted = f">={'.'.join(map(str, FIRST))},<{BEYOND[0]}"
        raise ToolchainMissing(f"Ethos-U needs {PACKAGE} {wanted}, and {version} is installed here: {INSTALL}")
    return version


def run_vela(model: bytes, vela: Vela, scratch_folder: Path, limit_s: float = LIMIT_S) -> VelaOutput:
    """Compiles a .tflite file for an Ethos-U.

    Args:
        model: the bytes of the file.
        vela: for which accelerator, and with which memories.
        scratch_folder: where a folder for the run may lie; it is gone afterwards.
        limit_s: after which the process is killed.

    Raises:
        ToolchainMissing: Vela is not installed.
        VelaFault: it refused the model, crashed, or took too long.
        EnvironmentFault: the disk is full or cannot be written.
    """
    vela_version()
    with storage_faults(f"running Vela in {scratch_folder}"):
        folder = Path(tempfile.mkdtemp(prefix="vela-", dir=scratch_folder))
    try:
        source = folder / f"{_NAME}.tflite"
        with storage_faults(f"running Vela in {scratch_folder}"):
            source.write_bytes(model)
        try:
            run_all([command(source, vela)], folder, {**os.environ, "TMPDIR": str(folder)}, limit_s)
        except CompilerEnded as error:
            if filled_the_disk(error, folder):
                raise EnvironmentFault(DISK_FULL) from error
            raise VelaFault(_failure(error, limit_s)) from error
        return VelaOutput(
            model=_result(folder / f"{_NAME}_vela.tflite"),
            summary=_result(folder / f"{_NAME}_summary_{vela.system_config}.csv"),
            log=_log(folder),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def command(source: Path, vela: Vela) -> Sequence[str]:
    """How Vela is started; `-P`, so that the folder that it runs in lends it no modules."""
    options = ["--accelerator-config", vela.accelerator_config, "--system-config", vela.system_config]
    options += ["--memory-mode", vela.memory_mode, "--config", CONFIGURATION, "--output-dir", str(source.parent)]
    if vela.arena_cache_size_bytes is not None:
        options += ["--arena-cache-size", str(vela.arena_cache_size_bytes)]
    return [sys.executable, "-P", "-m", MODULE, str(source), *options]


def _result(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_MODEL_BYTES + 1)
    except OSError as error:
        raise VelaFault(f"Vela ended without an error and without {path.name}: {error.strerror}") from error
    if len(content) > MAX_MODEL_BYTES:
        raise VelaFault(f"Vela wrote {path.name} of more than {MAX_MODEL_BYTES} bytes")
    return content


def _log(folder: Path) -> str:
    with (folder / "said-0").open("rb") as file:
        return file.read(MAX_LOG_BYTES).decode(errors="replace")


def _failure(error: CompilerEnded, limit_s: float) -> str:
    """What to tell: the last thing that Vela said, and what to do."""
    remedy = f"Is the model full int8, with static shapes? {PACKAGE} {vela_version()} says more on the same file"
    if error.status is None:
        return f"Vela did not end within {limit_s:g} s and was stopped. {remedy}"
    if error.status < 0:
        return f"Vela crashed (signal {-error.status}) on this model; {last_words(error.output)}. {remedy}"
    return f"Vela refuses this model: {last_words(error.output)}. {remedy}"


def last_words(output: str) -> str:
    """What follows "Error:", else the last line that is no part of a traceback's frames; no control characters."""
    lines = (line.strip() for line in output.splitlines())
    spoken = [line for line in lines if line and not line.startswith(_NOISE)]
    named = [at for at, line in enumerate(spoken) if _ERROR in line]
    words = " ".join([spoken[named[-1]].partition(_ERROR)[2].strip(), *spoken[named[-1] + 1 :]]) if named else ""
    text = "".join(letter for letter in words or (spoken or ["it said nothing"])[-1] if letter.isprintable())
    return text[:MAX_QUOTED_CHARACTERS].rstrip(" .,")
