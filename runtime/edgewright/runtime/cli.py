"""The command `edgewright`: finds the sub-commands of the installed parts and imports only the one that is called."""

from __future__ import annotations

import errno
import os
import sys
from importlib import metadata

import click

from edgewright.targets.faults import EnvironmentFault, Fault

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

ENTRY_POINT_GROUP = "edgewright.commands"

SUMMARIES = {
    "compile": "Compile a trained model into one bundle per target board.",
    "quantize": "Quantize an ONNX or TFLite model: a new model (QDQ ONNX), the plan it is made by, and what it costs.",
    "diff": "Compare two models layer by layer, worst first: signal-to-noise ratio of B with A as the truth.",
    "targets": "List, show, validate and compare target boards.",
    "bundle": "Inspect, verify and unpack bundles.",
    "run": "Run a bundle over a file of inputs on this machine.",
    "device": "Run and look after the device daemon.",
    "fleet": "Serve the fleet, manage devices, releases and rollouts.",
}
"""Shown by `edgewright --help`, which therefore imports no part; a test holds them against the commands' own help."""

DISK_FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}
"""What a disk says that is full, broken or read-only, wherever a command writes."""

EXTRAS = {"compile": "compiler", "quantize": "compiler", "diff": "compiler", "fleet": "fleet"}
"""Commands whose packages a device does not need, and the extra that brings them."""


class PartsGroup(click.Group):
    """A click group whose commands are entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        found = {point.name for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
        known = [name for name in SUMMARIES if name in found]
        return known + sorted(found - set(known))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        for point in metadata.entry_points(group=ENTRY_POINT_GROUP, name=cmd_name):
            command = point.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"entry point {point.name} = {point.value} is not a click command")
            return command
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)])


@click.group(
    cls=PartsGroup,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EDGEWRIGHT"},
    epilog='Shell completion: eval "$(_EDGEWRIGHT_COMPLETE=bash_source edgewright)" (or zsh_source, fish_source).',
)
@click.version_option(package_name="edgewright", prog_name="edgewright")
def edgewright() -> None:
    """Compile trained models for every board of a mixed fleet, serve them on the device, roll them out safely."""


def _explain_missing(missing: ModuleNotFoundError) -> int:
    """Say which extra brings a package that is not installed; a missing module of our own is our bug and is raised."""
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if command not in EXTRAS or (missing.name or "").startswith("edgewright"):
        raise missing
    click.echo(
        f"edgewright: `edgewright {command}` needs the package {missing.name}, which is not installed here. "
        f"Install it: pip install 'edgewright[{EXTRAS[command]}]'",
        err=True,
    )
    return EnvironmentFault.exit_code


def _forget_output() -> None:
    """Let what is still buffered for standard output go nowhere: Python would try to write it again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command; expected failures end in one message on stderr and an exit code, never in a traceback."""
    try:
        code = edgewright.main(prog_name="edgewright", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as wrong:
        wrong.show()
        code = wrong.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except Fault as fault:
        click.echo(f"edgewright: {fault}", err=True)
        code = fault.exit_code
    except ModuleNotFoundError as missing:
        code = _explain_missing(missing)
    except BrokenPipeError:
        _forget_output()  # its reader is gone (`… | head`): nothing is left to say
        code = 1
    except OSError as error:
        if error.errno not in DISK_FAULTS:
            raise
        _forget_output()
        click.echo(f"edgewright: the disk refuses: {error}. Make room, or write elsewhere.", err=True)
        code = EnvironmentFault.exit_code
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
