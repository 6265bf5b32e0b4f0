"""The C compiler: which one, with which options, for which machine.

What it makes depends on the files, the machine and the version of the compiler and on nothing else: not on the folder,
the time, the environment or the number of cores.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgewright.targets.faults import EnvironmentFault

from .machine import Machine
from .shared_object import check_shared_object, undefined_symbols
from .toolchain_choice import Toolchain, find_toolchain
from .toolchain_options import COMPILE, LINK, isa_options
from .toolchain_process import DISK_FULL, CompilerEnded, filled_the_disk, run_all

LIBRARY_FILE = "model.so"
LIMIT_S = 600.0
"""Of one command; a net takes seconds."""
MAX_QUOTED_CHARACTERS = 2000
_SCRATCH = "scratch"


class GeneratedCodeRejected(RuntimeError):
    """The compiler does not take what we wrote, or made of it what must not ship: our fault, for a bug report."""


def build(files: Mapping[str, bytes], machine: Machine, folder: Path, toolchain: Toolchain | None = None) -> Path:
    """Writes the files into a folder and compiles them to `model.so` there.

    Args:
        files: sources, headers and weights by name; every `.c` file is compiled, side by side on the cores.
        machine: what the code may use.
        folder: exists; what the compiler leaves in it besides the library is removed.
        toolchain: the best that is here where it is None.

    Raises:
        ToolchainMissing: there is no compiler for the machine.
        EnvironmentFault: the compiler was killed, ran out of time or of disk.
        GeneratedCodeRejected: the code does not compile, or needs or does what a model must not.
    """
    toolchain = toolchain or find_toolchain(machine)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    scratch = folder / _SCRATCH
    scratch.mkdir()
    try:
        _compile(sorted(name for name in files if name.endswith(".c")), machine, folder, toolchain)
        check_shared_object(folder / LIBRARY_FILE)
    except CompilerEnded as error:
        raise _fault(error, files, toolchain, folder) from error
    except ValueError as error:
        raise GeneratedCodeRejected(f"the compiled model must not ship: {error}") from error
    finally:
        shutil.rmtree(scratch)
    return folder / LIBRARY_FILE


def _compile(sources: Sequence[str], machine: Machine, folder: Path, toolchain: Toolchain) -> None:
    environment = _environment(folder / _SCRATCH)
    objects = [f"{_SCRATCH}/{name.removesuffix('.c')}.o" for name in sources]
    options = [*toolchain.command, *COMPILE, *isa_options(machine, toolchain.name)]
    run_all(
        [[*options, "-c", "-o", made, name] for name, made in zip(sources, objects, strict=True)],
        folder, environment, LIMIT_S,
    )  # fmt: skip
    link = [*toolchain.command, *LINK, "-o", LIBRARY_FILE, *objects]
    support = [] if toolchain.name == "zig" else ["-lgcc"] if toolchain.name == "gcc" else []
    run_all([[*link, *support]], folder, environment, LIMIT_S)
    if toolchain.name == "zig" and any(
        name.startswith("__aeabi_") for name in undefined_symbols(folder / LIBRARY_FILE)
    ):
        # Divisions that 32-bit ARM has no instruction for. Clang's library of them is compiled when it is first asked
        # for, which takes seconds: hardly a net needs it.
        run_all([[*link, "-lcompiler_rt", "-Wl,--gc-sections"]], folder, environment, LIMIT_S)


def _environment(scratch: Path) -> dict[str, str]:
    """Nothing that could change what is made, and no folder that outlives the build."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return inherited | {
        "LC_ALL": "C",
        "TMPDIR": str(scratch.absolute()),
        "SOURCE_DATE_EPOCH": "0",
        "ZIG_LOCAL_CACHE_DIR": str((scratch / "zig").absolute()),
        "ZIG_GLOBAL_CACHE_DIR": str((scratch / "zig").absolute()),
    }


def _fault(error: CompilerEnded, files: Mapping[str, bytes], toolchain: Toolchain, folder: Path) -> Exception:
    if filled_the_disk(error, folder):
        return EnvironmentFault(DISK_FULL)
    if error.status is None:
        return EnvironmentFault(f"{toolchain.name} was stopped after {LIMIT_S:.0f} s; is this machine overloaded?")
    if error.status < 0 or "Killed signal" in error.output:
        return EnvironmentFault(f"{toolchain.name} was killed: too little memory? A smaller model needs less of it")
    kept = Path(tempfile.mkdtemp(prefix="edgewright-rejected-"))
    for name, content in files.items():
        if name.endswith((".c", ".h")):
            (kept / name).write_bytes(content)
    return GeneratedCodeRejected(
        f"{toolchain.version} does not compile the code that was generated; this is a bug of ours. The code is in "
        f"{kept}, please report it with the model's operators. It said: {_first_error(error.output)}"
    )


def _first_error(output: str) -> str:
    lines = output.splitlines()
    first = next((index for index, line in enumerate(lines) if "error" in line), 0)
    return "\n".join(lines[first : first + 4])[:MAX_QUOTED_CHARACTERS] or "nothing"
