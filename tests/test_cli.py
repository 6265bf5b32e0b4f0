"""The command as a whole: quick help, one summary per command, examples everywhere, faults in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click
import pytest

from edgewright.runtime.cli import ENTRY_POINT_GROUP, SUMMARIES, edgewright


def command_tree() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name."""

    def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        yield name, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for child_name in command.list_commands(context):
                child = command.get_command(context, child_name)
                assert child is not None
                yield from walk(f"{name} {child_name}", child)

    return walk("edgewright", edgewright)


def test_help_lists_every_part_and_imports_none() -> None:
    probe = (
        "import sys\nfrom edgewright.runtime.cli import edgewright\n"
        "edgewright.main(['--help'], prog_name='edgewright', standalone_mode=False)\n"
        "heavy = {'numpy', 'onnxruntime', 'rich', 'msgspec', 'paho', 'sqlalchemy', 'torch', 'edgewright.compiler'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert "heavy: []" in run.stdout
    for name in SUMMARIES:
        assert f"  {name} " in run.stdout


def test_summaries_are_the_commands_own() -> None:
    points = {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
    assert set(points) == set(SUMMARIES)
    for name, point in points.items():
        command = point.load()
        assert command.get_short_help_str(200) == SUMMARIES[name], name


@pytest.mark.parametrize(("name", "command"), [pytest.param(n, c, id=n) for n, c in command_tree()])
def test_every_command_helps(name: str, command: click.Command) -> None:
    assert command.help, f"{name} has no help"
    if not isinstance(command, click.Group):
        text = command.get_help(click.Context(command, info_name=name))
        assert "Example" in text, f"{name} --help shows no example"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts[0]} has no help"


def test_a_wrong_command_is_a_usage_error() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edgewright.runtime.cli", "frobnicate"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert "No such command 'frobnicate'" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("package", "arguments", "extra"),
    [
        ("uvicorn", ["fleet", "serve"], "fleet"),
        ("onnx", ["compile", "m.onnx", "--target", "host", "--data", "x.npz", "--out", "out"], "compiler"),
    ],
)
def test_a_missing_extra_is_named(package: str, arguments: list[str], extra: str, tmp_path: Path) -> None:
    for name in ("m.onnx", "x.npz"):
        (tmp_path / name).write_bytes(b"")
    probe = (
        f"import sys\nsys.modules[{package!r}] = None\nsys.argv = ['edgewright', *{arguments!r}]\n"
        "from edgewright.runtime.cli import main\nmain()"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert run.returncode == 5, run.stderr
    assert f"edgewright[{extra}]" in run.stderr
    assert "Traceback" not in run.stderr


def test_ctrl_c_is_exit_130() -> None:
    probe = (
        "import click\nfrom edgewright.runtime import cli\n"
        "def stop() -> None:\n    raise KeyboardInterrupt\n"
        "cli.edgewright.add_command(click.Command('stop', callback=stop))\n"
        "import sys\nsys.argv = ['edgewright', 'stop']\ncli.main()"
    )
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert run.returncode == 130
    assert run.stderr.strip() == "interrupted"


def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "edgewright.runtime.cli", "targets", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert run.returncode == 5
    assert run.stderr.count("\n") == 1
    assert "No space left" in run.stderr


def test_a_reader_that_leaves_is_no_error_message() -> None:
    run = subprocess.run(
        f"'{sys.executable}' -m edgewright.runtime.cli targets list --json | head -c 1",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "["
    assert run.stderr == ""
