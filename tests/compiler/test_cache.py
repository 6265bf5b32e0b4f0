"""The cache: what is put comes back or does not exist, whatever happens to disk, processes and bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgewright.compiler.cache import Cache, default_directory, digest_of
from edgewright.compiler.model_files import NotProtobuf, model_files
from edgewright.compiler.request import Request
from edgewright.compiler.results import result_key

KEY = digest_of(["a key"])
MakeRequest = Callable[..., Request]


def unexpected(text: str) -> None:
    raise AssertionError(text)


def cache_in(folder: Path, max_bytes: int = 1 << 30) -> Cache:
    return Cache(folder / "cache", unexpected, max_bytes)


def entry(folder: Path, key: str = KEY) -> Path:
    return folder / "cache" / f"{key}.entry"


def test_bytes_come_back_from_another_process_s_cache(tmp_path: Path) -> None:
    assert cache_in(tmp_path).get(KEY) is None
    cache_in(tmp_path).put(KEY, b"statistics")
    assert cache_in(tmp_path).get(KEY) == b"statistics"
    assert cache_in(tmp_path).get(digest_of(["another"])) is None
    cache_in(tmp_path).put(KEY, b"newer")
    assert cache_in(tmp_path).get(KEY) == b"newer"


def test_files_come_back_whole(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(range(256)) * 9000)
    (tmp_path / "empty").write_bytes(b"")
    cache_in(tmp_path).put_files(KEY, tmp_path, ["empty", "big"])
    out = tmp_path / "out"
    out.mkdir()
    assert cache_in(tmp_path).get_files(KEY, out) == ("empty", "big")
    assert (out / "big").read_bytes() == (tmp_path / "big").read_bytes()
    assert (out / "empty").read_bytes() == b""


@given(st.lists(st.binary(max_size=4), max_size=5), st.lists(st.binary(max_size=4), max_size=5))
def test_keys_are_equal_only_for_equal_parts(left: list[bytes], right: list[bytes]) -> None:
    assert (digest_of(left) == digest_of(right)) == (left == right)


def test_every_damaged_byte_is_a_miss_and_the_entry_goes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"content")
    cache_in(tmp_path).put_files(KEY, tmp_path, ["a"])
    good = entry(tmp_path).read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        entry(tmp_path).write_bytes(bad)
        assert cache_in(tmp_path).get_files(KEY, out) is None, place
        assert not entry(tmp_path).exists()
        assert list(out.iterdir()) == []
    for length in range(len(good)):
        entry(tmp_path).write_bytes(good[:length])
        assert cache_in(tmp_path).get_files(KEY, out) is None, length
    entry(tmp_path).write_bytes(good)
    assert cache_in(tmp_path).get_files(KEY, out) == ("a",)


def test_an_entry_under_another_name_is_a_miss(tmp_path: Path) -> None:
    cache_in(tmp_path).put(KEY, b"content")
    other = digest_of(["other"])
    entry(tmp_path).rename(entry(tmp_path, other))
    assert cache_in(tmp_path).get(other) is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, max_bytes=3000)
    keys = [digest_of([str(index)]) for index in range(4)]
    for age, key in enumerate(keys[:3]):
        cache.put(key, bytes(800))
        os.utime(entry(tmp_path, key), ns=(age, age))
    assert cache.get(keys[0]) is not None  # now the youngest
    cache.put(keys[3], bytes(800))
    assert [cache.get(key) is not None for key in keys] == [True, False, True, True]
    cache.put(digest_of(["huge"]), bytes(3001))
    assert cache.get(digest_of(["huge"])) is None
    assert cache.get(keys[3]) is not None, "what can never fit drives nothing out"


def test_only_the_owner_may_look(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o755)
    cache_in(tmp_path).put(KEY, b"content")
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


@pytest.mark.parametrize("place", ["a file", "below a file"])
def test_a_folder_that_cannot_be_used_is_one_note(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    cache = Cache(tmp_path / "file" / ("x" if place == "below a file" else ""), notes.append)
    cache.put(KEY, b"content")
    assert cache.get(KEY) is None
    assert cache.get_files(KEY, tmp_path) is None
    assert len(notes) == 1
    assert "working without it" in notes[0]


def test_a_full_disk_is_one_note_and_no_entry(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from edgewright.compiler.cache import Cache\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "cache = Cache(Path(sys.argv[1]), print)\n"
        "cache.put('0' * 64, bytes(5000)); cache.put('1' * 64, bytes(5000))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "cache")], capture_output=True, text=True, check=True
    )
    assert len(run.stdout.splitlines()) == 1, run.stdout
    assert "working without it" in run.stdout
    assert list((tmp_path / "cache").iterdir()) == []


def test_temporary_files_of_the_dead_are_removed(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    dead, alive = tmp_path / "cache" / ".dead.entry.1", tmp_path / "cache" / ".alive.entry.2"
    for path in (dead, alive):
        path.write_text("")
    os.utime(dead, (0, 0))
    cache.put(KEY, b"content")
    assert not dead.exists()
    assert alive.exists()


def forge(path: Path, files: list[dict[str, object]], content: bytes = b"") -> None:
    header = json.dumps({"key": KEY, "files": files}).encode()
    path.write_bytes(hashlib.sha256(header).hexdigest().encode() + b"\n" + header + b"\n" + content)


@pytest.mark.parametrize(
    "change",
    [
        *({"name": name} for name in ("..", ".", "", "a/b", "a\0b", "x" * 300, "/etc/passwd")),
        *({"size_bytes": size} for size in (-1, 2**40, 2**80)),
    ],
)
def test_a_header_that_lies_is_a_miss(tmp_path: Path, change: dict[str, object]) -> None:
    cache, out = cache_in(tmp_path), tmp_path / "out"
    out.mkdir()
    honest: dict[str, object] = {"name": "a", "size_bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    for files in ([honest | change], [honest, honest]):
        forge(entry(tmp_path), files)
        assert cache.get(KEY) is None
        assert not entry(tmp_path).exists()
        forge(entry(tmp_path), files)
        assert cache.get_files(KEY, out) is None
    assert list(out.iterdir()) == []


def _a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def _open_to_all(path: Path) -> None:
    path.chmod(0o666)


def _of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12345, 12345)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tamper", [_a_pipe, _a_link, _open_to_all, _of_another_user])
def test_what_others_could_have_put_there_is_a_miss(tmp_path: Path, tamper: Callable[[Path], None]) -> None:
    """While the folder was open to all; it is closed when it is next used."""
    cache_in(tmp_path).put(KEY, b"content")
    (tmp_path / "cache").chmod(0o777)
    tamper(entry(tmp_path))
    assert cache_in(tmp_path).get(KEY) is None
    assert not os.path.lexists(entry(tmp_path))


def test_entries_of_the_future_go_first(tmp_path: Path) -> None:
    keys = [digest_of([str(number)]) for number in range(4)]
    cache = cache_in(tmp_path, max_bytes=3000)
    for key in keys[:2]:
        cache.put(key, bytes(1000))
        os.utime(entry(tmp_path, key), (4e9, 4e9))
    left = tmp_path / "cache" / ".future.entry.1"
    left.write_text("")
    os.utime(left, (4e9, 4e9))
    for key in keys[2:]:
        cache.put(key, bytes(1000))
    assert [entry(tmp_path, key).exists() for key in keys] == [False, False, True, True]
    assert not left.exists()


def hammer(folder: Path, worker: int) -> int:
    """Puts and gets in a store that is too small for all; returns how many reads found what they should."""
    cache = cache_in(folder, max_bytes=20_000)
    found = 0
    for turn in range(150):
        number = 0 if turn % 2 else (turn * 7 + worker) % 30  # one that stays, and too many that come and go
        key = digest_of([str(number)])
        content = cache.get(key)
        if content is None:
            cache.put(key, bytes([number]) * 1500)
        else:
            assert content == bytes([number]) * 1500
            found += 1
    return found


def test_processes_share_it_without_harm(tmp_path: Path) -> None:
    with ProcessPoolExecutor(3) as pool:
        found = sum(pool.map(hammer, [tmp_path] * 3, range(3)))
    assert found > 0
    names = [path.name for path in (tmp_path / "cache").iterdir()]
    assert all(name.endswith(".entry") for name in names), names


def test_where_it_lies_follows_xdg() -> None:
    home = Path("/home/someone")
    assert default_directory({}, home) == home / ".cache/edgewright"
    assert default_directory({"XDG_CACHE_HOME": "/var/x"}, home) == Path("/var/x/edgewright")
    assert default_directory({"XDG_CACHE_HOME": "relative"}, home) == home / ".cache/edgewright"


def external_model(folder: Path, location: str) -> Path:
    weight = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
    inner = numpy_helper.from_array(np.zeros(3, np.float32), "value")
    onnx.external_data_helper.set_external_data(weight, location=location, length=36)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    onnx.external_data_helper.set_external_data(inner, location="of-attribute.bin", length=12)
    inner.ClearField("raw_data")
    inner.data_location = onnx.TensorProto.EXTERNAL
    branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=inner)], "branch", [], [])
    nodes = [
        helper.make_node("If", ["condition"], ["z"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [], [weight]))
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_the_files_of_a_model_are_found_wherever_their_tensors_stand(tmp_path: Path) -> None:
    path = external_model(tmp_path, "weights.bin")
    assert model_files(path) == (path, tmp_path / "of-attribute.bin", tmp_path / "weights.bin")


@given(st.binary(min_size=1, max_size=60))
def test_any_bytes_are_a_model_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with contextlib.suppress(NotProtobuf):
        assert model_files(path)[0] == path


def test_everything_that_has_a_say_changes_the_key(make_request: MakeRequest, tmp_path: Path) -> None:
    base = result_key(make_request())
    assert base is not None
    assert result_key(make_request(out=tmp_path / "elsewhere")) == base
    (tmp_path / "copy").mkdir()
    for name in ("net.onnx", "data.npz"):
        (tmp_path / "copy" / name).write_bytes((tmp_path / name).read_bytes())
    copies = {"model": str(tmp_path / "copy/net.onnx"), "data": tmp_path / "copy/data.npz"}
    assert result_key(make_request(**copies)) == base, "where files lie has no say"
    recorded = tmp_path / "measurements.json"
    recorded.write_text("{}")
    changes: list[dict[str, object]] = [
        {"targets": ("host",)},
        {"targets": ("raspberry-pi-5", "host")},
        {"metric": "agreement"},
        {"max_drop": "1%"},
        {"name": "other"},
        {"version": "2"},
        {"security_epoch": 1},
        {"threads": 2},
        {"mean": (1.0,)},
        {"scale": (2.0,)},
        {"measurements": recorded},
        {"plan": recorded},
    ]
    keys = [result_key(make_request(**change)) for change in changes]
    recorded.write_text("{} ")
    keys.append(result_key(make_request(measurements=recorded)))
    (tmp_path / "data.npz").write_bytes((tmp_path / "data.npz").read_bytes() + b"\0")
    keys.append(result_key(make_request()))
    assert None not in keys
    assert len({base, *keys}) == len(keys) + 1


def test_a_board_file_has_a_say_down_to_its_latency_constants(make_request: MakeRequest, int8_board: str) -> None:
    before = result_key(make_request(targets=(int8_board,)))
    text = Path(int8_board).read_text()
    Path(int8_board).write_text(text.replace("operator_overhead_us = 500", "operator_overhead_us = 501"))
    assert result_key(make_request(targets=(int8_board,))) not in {None, before}


def test_external_weights_have_a_say(make_request: MakeRequest, tmp_path: Path) -> None:
    path = external_model(tmp_path, "weights.bin")
    (tmp_path / "of-attribute.bin").write_bytes(bytes(12))
    assert result_key(make_request(model=str(path))) is None, "a file is missing"
    (tmp_path / "weights.bin").write_bytes(bytes(36))
    before = result_key(make_request(model=str(path)))
    (tmp_path / "weights.bin").write_bytes(bytes(35) + b"1")
    assert result_key(make_request(model=str(path))) not in {None, before}


@pytest.mark.parametrize("change", [{"metric": "my.module:metric"}, {"model": "my.module:build"}])
def test_code_of_the_user_is_never_cached(make_request: MakeRequest, change: dict[str, object]) -> None:
    assert result_key(make_request(**change)) is None


def compile_once(
    model: Path, data: Path, out: Path, *options: str, cache: Path | None = None
) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-X", "importtime", "-m", "edgewright.runtime.cli", "compile", model, "--data", data]
    words += ["--out", out, "--target", "raspberry-pi-5", "--target", "host", "--max-drop", "20%"]
    words += ["--engine", "onnxruntime", *options]
    environment = os.environ | ({} if cache is None else {"XDG_CACHE_HOME": str(cache)})
    return subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=120, check=False, env=environment
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_second_run_is_the_first_one_s_bytes_without_its_imports(
    model_path: Path, data_path: Path, tmp_path: Path
) -> None:
    cold = compile_once(model_path, data_path, tmp_path / "cold")
    assert cold.returncode == 0, cold.stderr
    assert "from cache" not in cold.stdout
    assert "onnxruntime" in cold.stderr
    warm = compile_once(model_path, data_path, tmp_path / "warm")
    assert warm.returncode == 0, warm.stderr
    assert "from cache" in warm.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in warm.stderr.splitlines()}
    assert imported & {"onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch"} == set()
    assert files(tmp_path / "warm") == files(tmp_path / "cold")
    again = compile_once(model_path, data_path, tmp_path / "json", "--json")
    assert json.loads(again.stdout) == json.loads((tmp_path / "cold/report.json").read_text())
    measured = compile_once(model_path, data_path, tmp_path / "measured", "--no-cache")
    assert "from cache" not in measured.stdout


def test_compile_works_where_the_cache_does_not(model_path: Path, data_path: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = compile_once(model_path, data_path, tmp_path / "out", cache=tmp_path / "file")
    assert result.returncode == 0
    assert result.stderr.count("working without it") == 1
    assert (tmp_path / "out" / "host.bundle").exists()
