"""What a manifest may ask of an engine: the same strictness for each, so that a misspelt option is never ignored."""

from __future__ import annotations

from collections.abc import Mapping

from edgewright.bundle.manifest import Manifest

from .protocol import ModelRefused

Options = Mapping[str, str | int | bool]


def checked_options(manifest: Manifest, types: Mapping[str, type]) -> Options:
    """The manifest's options.

    Args:
        manifest: the bundle's.
        types: the options that the engine has, and of which type each is.

    Raises:
        ModelRefused: an option that the engine does not have, or of another type.
    """
    for key, value in manifest.engine.options.items():
        if type(value) is not types.get(key):
            known = ", ".join(f"{name} ({kind.__name__})" for name, kind in types.items())
            raise ModelRefused(f"engine option {key} = {value!r} is not one of {manifest.engine.name}'s: {known}")
    return manifest.engine.options


def thread_count(options: Options, on_this_machine: int | None) -> int:
    """Threads of one inference: what this machine decides, else what the manifest says, else one.

    Raises:
        ModelRefused: no number of threads can be that.
    """
    threads = on_this_machine or int(options.get("threads", 1))
    if not 1 <= threads <= 1024:
        raise ModelRefused(f"engine option threads is {threads}, expected 1 to 1024")
    return threads


def name_list(options: Options, key: str) -> tuple[str, ...]:
    """Names of tensors, separated by commas; empty where the option is missing."""
    return tuple(name for name in str(options.get(key, "")).split(",") if name)
