"""The C compiler: which one, with which options, for which machine."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from ...faults import ToolchainMissing
from .machine import Machine

OPTIONS = (
    "-std=gnu11", "-O2", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fvisibility=hidden",
    "-fstack-protector-strong", "-Wall", "-Wno-unused-function", "-Wno-psabi",
)  # fmt: skip
LINK_OPTIONS = ("-shared", "-Wl,-z,noexecstack", "-Wl,-z,relro,-z,now", "-Wl,--build-id=none", "-s")


def build(files: Mapping[str, bytes], machine: Machine, folder: Path) -> Path:
    """Writes the files into a folder and compiles them to `model.so` there.

    Raises:
        ToolchainMissing: there is no compiler for the machine.
    """
    for name, content in files.items():
        (folder / name).write_bytes(content)
    sources = sorted(name for name in files if name.endswith(".c"))
    command = ["gcc", *OPTIONS, *_isa_options(machine), *LINK_OPTIONS, "-o", "model.so", *sources]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise ToolchainMissing("no C compiler: apt-get install gcc, or pip install ziglang") from error
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"generated code does not compile: {error.stderr[:4000]}") from error
    return folder / "model.so"


def _isa_options(machine: Machine) -> list[str]:
    spelled = {"avx512_vnni": "avx512vnni", "avx_vnni": "avxvnni"}
    options = [f"-m{spelled.get(feature, feature)}" for feature in machine.isa] if machine.arch == "x86_64" else []
    return [*options, "-mprefer-vector-width=512"] if machine.vector_bytes == 64 else options
