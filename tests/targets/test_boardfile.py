"""Board files: inheritance, and one error per mistake that names key, value, expectation and file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.targets.board import BoardError
from edgewright.targets.boardfile import MAX_FILE_BYTES, MAX_FILES, is_path, merge
from edgewright.targets.catalog import BOARDS, board_names, load_board

WriteBoard = Callable[..., Path]

OWN = 'name = "own"\ninherits = "raspberry-pi-5"\n'
COMPLETE = """
name = "complete"
vendor = "Example"
description = "All required keys"
family = "arm"
arch = "aarch64"
daemon = true
[cpu]
model = "Cortex-A76"
cores = 4
clock_hz = 2_400_000_000
isa = ["asimd"]
int8 = { u8s8 = "exact", s8s8 = "exact", u8u8 = "exact" }
[memory]
ram_bytes = 1_073_741_824
bandwidth_bytes_per_s = 1_000_000_000
[[engines]]
name = "onnxruntime"
precisions = ["float32"]
version = ">=1.31,<2"
"""


def test_the_smallest_complete_file_loads_and_borrows_a_latency_model(write: WriteBoard) -> None:
    board = load_board(str(write(COMPLETE)))
    assert board.name == "complete"
    assert board.latency
    assert all(model.source.startswith("borrowed from raspberry-pi-4") for model in board.latency)
    lender = load_board("raspberry-pi-4").latency[0]
    assert board.latency[0].high_factor > lender.high_factor


def test_a_child_overrides_single_keys_of_a_table(write: WriteBoard) -> None:
    parent = load_board("raspberry-pi-5")
    board = load_board(str(write(OWN + "[memory]\nram_bytes = 4_294_967_296\n")))
    assert board.memory.ram_bytes == 4 * 1024**3
    assert board.memory.bandwidth_bytes_per_s == parent.memory.bandwidth_bytes_per_s
    assert board.cpu == parent.cpu
    assert board.latency == parent.latency


def test_a_child_replaces_lists_as_a_whole(write: WriteBoard) -> None:
    board = load_board(str(write(OWN + '[cpu]\nisa = ["asimd"]\n')))
    assert board.cpu.isa == ("asimd",)


def test_a_file_beside_this_one_can_be_inherited(write: WriteBoard) -> None:
    write(OWN.replace("own", "base") + "[cpu]\ncores = 2\n", "family/base.toml")
    child = write('name = "child"\ninherits = "family/base.toml"\n[cpu]\nclock_hz = 1_000_000_000\n', "child.toml")
    board = load_board(str(child))
    assert (board.name, board.cpu.cores, board.cpu.clock_hz) == ("child", 2, 1_000_000_000)
    assert board.cpu.model == "Cortex-A76"


def test_the_source_of_an_overridden_figure_is_not_inherited(write: WriteBoard) -> None:
    assert "cpu.isa" in load_board("raspberry-pi-5").sources
    board = load_board(str(write(OWN + '[cpu]\nisa = ["asimd"]\n')))
    assert "cpu.isa" not in board.sources
    assert "memory" in board.sources


plain = st.recursive(
    st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(st.sampled_from("abc"), plain, max_size=3)


@given(parent=tables, child=tables)
def test_what_the_child_says_holds_and_the_rest_is_the_parents(parent: dict[str, Any], child: dict[str, Any]) -> None:
    merged = merge(parent, child)
    assert merge(merged, child) == merged
    assert set(merged) == set(parent) | set(child)
    for key, value in child.items():
        if not isinstance(value, dict) or not isinstance(parent.get(key), dict):
            assert merged[key] == value
    assert all(merged[key] == parent[key] for key in set(parent) - set(child))
    assert merge(parent, {}) == parent == merge({}, parent)


@given(one=tables, two=tables, three=tables)
def test_inheriting_in_steps_is_inheriting_at_once(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    # Only where no table is replaced by a plain value on the way: that forgets what was below it.
    if all(not isinstance(one.get(key), dict) or isinstance(value, dict) for key, value in two.items()):
        flat = {key: value for key, value in three.items() if not isinstance(value, dict)}
        assert merge(merge(one, two), flat) == merge(one, merge(two, flat))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN + "[cpu]\ncores = 0\n", "own.toml: key cpu.cores: expected a whole number >= 1, got 0"),
        (OWN + '[cpu]\ncores = "four"\n', "own.toml: key cpu.cores: expected a whole number, got 'four'"),
        (OWN + "[cpu]\ncores = 4.0\n", "own.toml: key cpu.cores: expected a whole number, got 4.0"),
        (OWN + "[cpu]\ncore = 4\n", "own.toml: key cpu.core: unknown; did you mean cores?"),
        (OWN + "colour = 4\n", "own.toml: key colour: unknown; known keys here: name, vendor"),
        (OWN + "cpu = 4\n", "own.toml: key cpu: expected a table, got 4"),
        (OWN + 'family = "risc"\n', "own.toml: key family: expected one of cpu, arm, cuda, npu, got 'risc'"),
        (OWN + "[cpu]\nisa = [1]\n", "own.toml: key cpu.isa.0: expected text, got 1"),
        (OWN + '[cpu]\nisa = ["a", "a"]\n', "own.toml: key cpu.isa: a feature is listed twice"),
        (OWN + '[cpu]\nisa = ["avx2"]\n', "own.toml: key cpu.isa: avx2 is not known for aarch64; known are asimd"),
        (
            OWN + '[cpu.int8]\nu8s8 = "maybe"\n',
            "own.toml: key cpu.int8.u8s8: expected one of exact, saturating16, got 'maybe'",
        ),
        (
            OWN + '[[engines]]\nname = "x"\nprecisions = ["int4"]\nversion = "1"\n',
            "own.toml: key engines.0.precisions.0: expected one of float32, float16, bfloat16, int8, got 'int4'",
        ),
        (OWN + '[[engines]]\nname = "x"\nprecisions = ["int8"]\n', "own.toml: key engines.0.version: missing"),
        (
            OWN + '[[engines]]\nname = "x"\nprecisions = ["int8"]\nversion = "1"\naccelerator = "gpu"\n',
            "own.toml: key engines.0.accelerator: expected one of none",
        ),
        (
            OWN + ('[[engines]]\nname = "x"\nprecisions = ["int8"]\nversion = "1"\n' * 2),
            "own.toml: key engines: x on cpu is listed twice",
        ),
        (OWN + 'family = "cuda"\n', "own.toml: key family: cuda needs an accelerator of kind gpu"),
        (OWN + 'arch = "cortex-m"\n', "own.toml: key daemon: expected false"),
        (OWN + '[sources]\n"cpu.colour" = "x"\n', "own.toml: key sources.cpu.colour: there is no such key"),
        (OWN + "[memory]\nram_bytes = nan\n", "own.toml: key memory.ram_bytes: expected a whole number, got nan"),
        (OWN + "[memory]\nram_bytes = 1979-05-27\n", "own.toml: key memory.ram_bytes: expected a whole number, got"),
        (OWN + 'vendor = "\\u001b[31m"\n', "own.toml: key vendor: expected text matching regex"),
        ('inherits = "raspberry-pi-5"\n', "own.toml: key name: missing; a board that inherits is another board"),
        ('name = "host"\ninherits = "raspberry-pi-5"\n', 'own.toml: key name: "host" is the machine at hand'),
        ('name = "raspberry-pi-5"\ninherits = "raspberry-pi-5"\n', "key name: raspberry-pi-5 is the name of a"),
        ('name = "UPPER"\ninherits = "raspberry-pi-5"\n', "own.toml: key name: expected text matching regex"),
        ('name = "own"\ninherits = "raspberry-pi-6"\n', "key inherits: unknown target 'raspberry-pi-6'. Did you"),
        ('name = "own"\ninherits = "host"\n', "own.toml: key inherits: expected the name of a shipped board"),
        ('name = "own"\ninherits = 5\n', "own.toml: key inherits: expected the name of a shipped board"),
        ('name = "own"\ninherits = "../other.toml"\n', "own.toml: key inherits: '../other.toml' is outside the folder"),
        ('name = "own"\ninherits = "/etc/other.toml"\n', "key inherits: '/etc/other.toml' is outside the folder"),
        ('name = "own"\ninherits = "a\\u0000.toml"\n', "cannot be read"),
        ('name = "own"\ninherits = "missing.toml"\n', "missing.toml: cannot be read: No such file"),
        ('name = "own"\n', "own.toml: key vendor: missing; it is required"),
        ("name = 'own'\nname = 'again'\n", "own.toml: not valid TOML: Cannot overwrite a value (at line 2"),
        ("", "own.toml: key name: missing; it is required"),
    ],
)  # fmt: skip
def test_a_mistake_is_explained(write: WriteBoard, text: str, message: str) -> None:
    with pytest.raises(BoardError) as caught:
        load_board(str(write(text)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_a_mistake_in_an_inherited_file_names_that_file(write: WriteBoard) -> None:
    write(OWN.replace("own", "base") + "[cpu]\ncores = -1\n", "base.toml")
    child = write('name = "child"\ninherits = "base.toml"\n', "child.toml")
    with pytest.raises(BoardError, match=r"base\.toml: key cpu\.cores: expected a whole number >= 1, got -1"):
        load_board(str(child))


def test_inheritance_in_a_circle_is_refused(write: WriteBoard) -> None:
    write('name = "one"\ninherits = "two.toml"\n', "one.toml")
    two = write('name = "two"\ninherits = "one.toml"\n', "two.toml")
    with pytest.raises(BoardError, match=r"goes in a circle: two\.toml -> one\.toml -> two\.toml"):
        load_board(str(two))
    own = write('name = "own"\ninherits = "./own.toml"\n')
    with pytest.raises(BoardError, match="goes in a circle"):
        load_board(str(own))


def test_a_chain_of_inheritance_has_an_end(write: WriteBoard) -> None:
    for at in range(MAX_FILES + 1):
        path = write(f'name = "b{at}"\ninherits = "b{at + 1}.toml"\n', f"b{at}.toml")
    with pytest.raises(BoardError, match=f"more than {MAX_FILES} files"):
        load_board(str(path.with_name("b0.toml")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"# " + b"x" * MAX_FILE_BYTES, "larger than 65536 bytes"),
        (b"a = " + b"[" * 60_000, "not valid TOML"),
        (b".".join([b"a"] * 2_000) + b" = 1", "nested deeper than 8 levels"),
        (b"a = [[[[[[[[[[1]]]]]]]]]]", "nested deeper than 8 levels"),
        (b"a = " + b"9" * 5_000, "not valid TOML"),
        (b"\xff\xfe", "not valid TOML"),
        (b"a = \x00", "not valid TOML"),
        (b'"' + b"\\u001b" * 50 + b'" = 1', "key "),
    ],
)
def test_hostile_files_end_in_one_short_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(content)
    with pytest.raises(BoardError) as caught:
        load_board(str(path))
    text = str(caught.value).removeprefix(str(path))
    assert message in text
    assert len(text) < 400
    assert text.isprintable()


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_board_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(BoardError):
        load_board(str(path))


NPU = """
name = "own"
inherits = "ethos-u65-256"
[[engines]]
name = "{engine}"
precisions = ["int8"]
version = "1"
{rest}"""
DRIVES = 'accelerator = "ethos-u65"\n'


def vela(accelerator: str = "ethos-u65-256", system: str = "Ethos_U65_Mid_End", mode: str = "Sram_Only") -> str:
    keys = f'accelerator_config = "{accelerator}", system_config = "{system}", memory_mode = "{mode}"'
    return f"vela = {{ {keys} }}\n"


@pytest.mark.parametrize(
    ("engine", "rest", "message"),
    [
        ("ethos-u-vela", DRIVES, "key engines.0.vela: missing; ethos-u-vela needs accelerator_config"),
        ("litert", DRIVES + vela(), "key engines.0.vela: only the engine ethos-u-vela has one, not litert"),
        ("ethos-u-vela", vela(), "key engines.0.accelerator: expected the accelerator that is an ethos-u65-256"),
        (
            "ethos-u-vela",
            DRIVES + vela("ethos-u65-512"),
            "key engines.0.vela.accelerator_config: ethos-u65-512 does not fit its accelerator, ethos-u65 of 256 MAC",
        ),
        (
            "ethos-u-vela",
            DRIVES + vela("ethos-u55-256", "Ethos_U55_Deep_Embedded"),
            "key engines.0.vela.accelerator_config: ethos-u55-256 does not fit its accelerator, ethos-u65 of 256 MAC",
        ),
        (
            "ethos-u-vela",
            DRIVES + vela(system="Ethos_U55_Deep_Embedded"),
            "key engines.0.vela.system_config: Ethos_U55_Deep_Embedded is none of ethos-u65",
        ),
        (
            "ethos-u-vela",
            DRIVES + vela(mode="Dedicated_Sram"),
            "key engines.0.vela.arena_cache_size_bytes: missing; Dedicated_Sram has no size of its own",
        ),
        ("ethos-u-vela", DRIVES + vela(mode="Flash"), "key engines.0.vela.memory_mode: expected one of Sram_Only"),
        (
            "ethos-u-vela",
            DRIVES + vela("ethos-u75"),
            "key engines.0.vela.accelerator_config: expected one of ethos-u55",
        ),
    ],
)
def test_a_vela_configuration_fits_its_engine(write: WriteBoard, engine: str, rest: str, message: str) -> None:
    with pytest.raises(BoardError) as caught:
        load_board(str(write(NPU.format(engine=engine, rest=rest))))
    assert message in str(caught.value)


def test_a_board_of_ones_own_says_its_cache(write: WriteBoard) -> None:
    mode = vela(mode="Dedicated_Sram").replace(" }", ", arena_cache_size_bytes = 131_072 }")
    board = load_board(str(write(NPU.format(engine="ethos-u-vela", rest=DRIVES + mode))))
    assert board.engines[0].vela is not None
    assert board.engines[0].vela.arena_cache_size_bytes == 131_072


def test_the_npus_of_the_issue_ship() -> None:
    names = {"imx93", *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256))}
    names |= {f"ethos-{series}-{macs}" for series in ("u65", "u85") for macs in (256, 512)}
    engines = {name: engine for name in names for engine in load_board(name).engines if engine.name == "ethos-u-vela"}
    assert set(engines) == names
    shipped = {name: engine.vela.accelerator_config for name, engine in engines.items() if engine.vela is not None}
    assert shipped == {name: "ethos-u65-256" if name == "imx93" else name for name in names}


toml_values = st.one_of(
    st.integers(-(2**63), 2**63), st.floats(), st.booleans(), st.just("text"), st.just([]), st.just({}), st.just([{}]),
    st.just([["a"]]), st.just({"a": {"b": 1}}),
)  # fmt: skip
KEYS = ("name", "vendor", "family", "arch", "daemon", "cpu", "memory", "engines", "accelerators", "latency", "sources")


@given(key=st.sampled_from(KEYS), value=toml_values)
def test_any_value_at_any_key_is_taken_or_explained(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    data = {"name": "own", "inherits": "imx93", key: value}
    path = tmp_path_factory.getbasetemp() / "value.toml"
    path.write_text("\n".join(f"{name} = {toml(item)}" for name, item in data.items()))
    assert set(tomllib.loads(path.read_text())) == set(data)
    message = error_of(path)
    if message is not None:
        # Taking the accelerators away is noticed where they are missed.
        assert f"key {key}" in message or (key == "accelerators" and "key family: npu needs" in message)


def error_of(path: Path) -> str | None:
    """What `load_board` has to say against that file; None when nothing."""
    try:
        load_board(str(path))
    except BoardError as error:
        return str(error)
    return None


def toml(value: object) -> str:
    """The value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("name", ["missing.toml", "./missing", ".", "/dev/zero", "/dev/null/x.toml"])
def test_a_path_that_is_no_readable_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BoardError):
        load_board(name)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    os.mkfifo(path)
    with pytest.raises(BoardError, match="expected a regular file"):
        load_board(str(path))


def test_an_unknown_name_suggests_and_lists() -> None:
    with pytest.raises(BoardError, match=r"unknown target 'raspberypi5'\. Did you mean raspberry-pi-5\? Known: host, "):
        load_board("raspberypi5")


@pytest.mark.parametrize("name", ["../faults", "..", "", "boards", "raspberry-pi-5\n"])
def test_a_name_never_leaves_the_catalogue(name: str) -> None:
    with pytest.raises(BoardError):
        load_board(name)


@pytest.mark.parametrize(
    ("text", "path"), [("host", False), ("imx93", False), ("./imx93", True), ("a.toml", True), ("/x", True)]
)
def test_what_counts_as_a_path(text: str, path: bool) -> None:
    assert is_path(text) is path


@pytest.mark.parametrize("name", board_names()[1:])
def test_shipped_boards_are_named_after_their_file_and_say_where_figures_come_from(name: str) -> None:
    board = load_board(name)
    assert board.name == name
    assert {"cpu", "memory"} <= set(board.sources)
    assert bool(board.accelerators) == ("accelerators" in board.sources)
    assert all(model.source.startswith("bench/cost.py: ") for model in board.latency)
    assert {model.precision for model in board.latency} >= {"int8"}


def test_a_shipped_file_can_be_validated_by_its_path() -> None:
    assert load_board(str(BOARDS / "imx93.toml")) == load_board("imx93")
