"""What the docs tell people to type, works; and the links in them lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edgewright.runtime.cli import edgewright
from examples.demo.processes import free_port
from tests.layering import ROOT

NOT_RUN_HERE = ("make ", "pip install", ". .venv", "python -m venv")
"""Set-up lines: CI itself is their test (`make check test` in a fresh clone), and their names are checked below."""

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def commands(page: Path) -> list[str]:
    """Return the lines after `$ ` in the page's console blocks, comments taken off."""
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+# .*$", "", line) for line in lines]


GUIDES = [
    ROOT / "docs/guides/quantization.md",
    ROOT / "docs/guides/native.md",
    ROOT / "docs/guides/rehearse.md",
    ROOT / "docs/formats/plan.md",
]
"""Pages whose commands need nothing but the model and the data that the README makes."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", GUIDES, ids=[page.name for page in GUIDES])
def test_every_command_of_a_guide_runs(page: Path, tmp_path: Path) -> None:
    wanted = commands(page)
    assert len(wanted) >= 2
    run = shell(["set -eu", "python -m examples.first_model", *wanted], tmp_path, {"XDG_CACHE_HOME": str(tmp_path)})
    assert run.returncode == 0, run.stdout + run.stderr
    for written in re.findall(r"(?<=[=\s])[\w.]+\.(?:onnx|toml|svg)", " ".join(wanted)):
        assert (tmp_path / written).stat().st_size > 0, written


def shell(lines: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs lines as a person would who has activated the environment and stands in `folder`."""
    return subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


ANSWERS = {
    "edgewright device run": "edgewright device status --state-dir device",
    "edgewright fleet serve": "edgewright fleet device ls --data fleet",
}
"""Who starts something types on when it is up, however long a busy machine takes; these say when."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_readme_command_runs(tmp_path: Path) -> None:
    device, fleet = free_port(), free_port()
    lines = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for command in commands(ROOT / "README.md"):
        if command.startswith(NOT_RUN_HERE):
            continue
        lines.append(f"echo '$ {command}'")
        lines.append(command.replace("127.0.0.1:8000", f"127.0.0.1:{device}"))
        if command.endswith("&"):
            answers = ANSWERS[" ".join(command.split()[:3])]
            lines.append(f"for _ in $(seq 100); do {answers} >/dev/null 2>&1 && break; sleep 0.2; done")
    assert len(lines) > 15
    environment = {
        "EDGEWRIGHT_DEVICE_RUN_LISTEN": f"127.0.0.1:{device}",
        "EDGEWRIGHT_FLEET_SERVE_LISTEN": f"127.0.0.1:{fleet}",
        "EDGEWRIGHT_FLEET_SERVE_MQTT": f"127.0.0.1:{free_port()}",
    }
    run = shell(lines, tmp_path, environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert '"versions":["1"]' in run.stdout


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_make_targets_and_extras_that_docs_name_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for command in commands(page):
        if command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command
        for extras in re.findall(r"'\.\[([a-z,]+)\]'", command):
            for extra in extras.split(","):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE), command


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def spoken(page: Path) -> list[str]:
    """Return every `edgewright …` line of a page's blocks, continued lines joined, comments taken off."""
    blocks = re.findall(
        r"^```(?:console|sh|bash)?\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    told = [re.sub(r"\s+# .*$", "", line.removeprefix("$ ")) for line in lines]
    return [line for line in told if line.startswith("edgewright ")]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_command_and_option_that_docs_name_exists(page: Path) -> None:
    for line in spoken(page):
        words = shlex.split(re.split(r"\s[|>&]", line)[0])[1:]
        command: click.Command = edgewright
        while isinstance(command, click.Group):
            assert words, f"{line}: a group"
            found = command.get_command(click.Context(command), words[0])
            assert found is not None, f"{line}: {command.name} has no {words[0]!r}"
            command, words = found, words[1:]
        known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in {*known, "--help"}, f"{line}: no option {word}"
