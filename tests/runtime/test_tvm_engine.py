"""Engine `tvm`: only the manifest's file is loaded, on a processor that runs it; outputs by their order."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import helper

pytest.importorskip("tvm")  # before the engine, which imports it

from edgewright.bundle.archive import read_manifest
from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.runtime.engines.protocol import LoadOptions, ModelRefused
from edgewright.runtime.engines.tvm import ENGINE, Tvm
from edgewright.runtime.engines.verified_file import Processor

from .engine_bundles import onnx_model, write_engine_bundle
from .native_bundle import compile_c, needs_gcc
from .tvm_models import tvm_library

OPTIONS = LoadOptions()
LIBRARY = "model/model.so"


def spec(name: str) -> TensorSpec:
    return TensorSpec(name=name, datatype="FP32", shape=(-1, 3))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`total, difference = a + b, a - b`, of which the graph has the inputs in the order b, a."""
    folder = tmp_path_factory.mktemp("tvm")
    nodes = [helper.make_node("Add", ["a", "b"], ["total"]), helper.make_node("Sub", ["a", "b"], ["difference"])]
    model = onnx_model(nodes, {"b": [1, 3], "a": [1, 3]}, {"total": [1, 3], "difference": [1, 3]}, {})
    files = {LIBRARY: tvm_library(model, folder)}
    write_engine_bundle(folder / "b", "tvm", files, [spec("a"), spec("b")], [spec("total"), spec("difference")])
    return folder / "b"


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "b"))


def answers(manifest: Manifest, bundle: Path) -> dict[str, list[list[float]]]:
    instance = ENGINE.load(bundle, manifest, OPTIONS)
    a, b = np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.array([[10, 20, 30], [40, 50, 60]], np.float32)
    found = {name: array.tolist() for name, array in instance.run({"a": a, "b": b}).items()}
    instance.close()
    return found


TOTAL, DIFFERENCE = [[11, 22, 33], [44, 55, 66]], [[-9, -18, -27], [-36, -45, -54]]


def test_inputs_go_by_name_and_outputs_in_the_manifest_s_order(bundle: Path) -> None:
    assert answers(read_manifest(bundle), bundle) == {"total": TOTAL, "difference": DIFFERENCE}


def with_outputs(bundle: Path, names: list[str], option: str = "") -> Manifest:
    manifest = read_manifest(bundle)
    engine = msgspec.structs.replace(manifest.engine, options={"outputs": option} if option else {})
    return msgspec.structs.replace(manifest, outputs=tuple(spec(name) for name in names), engine=engine)


def test_an_option_says_the_library_s_order(bundle: Path) -> None:
    manifest = with_outputs(bundle, ["difference", "total"], "total,difference")
    assert answers(manifest, bundle) == {"total": TOTAL, "difference": DIFFERENCE}
    assert answers(with_outputs(bundle, ["difference"], "total,difference"), bundle) == {"difference": DIFFERENCE}


@pytest.mark.parametrize(
    ("names", "option", "complaint"),
    [
        (["total"], "", "has 2 outputs, its manifest and its options name 1"),
        (["total", "difference", "third"], "", "has 2 outputs, its manifest and its options name 3"),
        (["total", "difference"], "total", "expected each output once, difference too"),
        (["total"], "total,total", "expected each output once"),
    ],
)
def test_outputs_that_do_not_fit(bundle: Path, names: list[str], option: str, complaint: str) -> None:
    with pytest.raises(ModelRefused, match=complaint):
        ENGINE.load(bundle, with_outputs(bundle, names, option), OPTIONS)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere.so"))
    path.symlink_to("elsewhere.so")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (append, "not the file that its manifest describes"),
        (flip, "not the file that its manifest describes"),
        (link, "symbolic link"),
        (Path.unlink, "does not exist"),
    ],
)
def test_another_file_is_not_loaded(bundle: Path, change: Callable[[Path], None], complaint: str) -> None:
    change(bundle / LIBRARY)
    with pytest.raises(ModelRefused, match=complaint):
        ENGINE.load(bundle, read_manifest(bundle), OPTIONS)


@needs_gcc
def test_no_code_of_a_changed_file_runs(bundle: Path, tmp_path: Path) -> None:
    witness = tmp_path / "ran"
    text = f"""
    #include <fcntl.h>
    __attribute__((constructor)) static void ran(void) {{ open("{witness}", O_CREAT | O_WRONLY, 0600); }}
    """
    compile_c(bundle / LIBRARY, text)
    with pytest.raises(ModelRefused, match="not the file"):
        ENGINE.load(bundle, read_manifest(bundle), OPTIONS)
    assert not witness.exists()
    files = {LIBRARY: (bundle / LIBRARY).read_bytes()}
    honest = write_engine_bundle(tmp_path / "honest", "tvm", files)
    with pytest.raises(ModelRefused, match=r"cannot load digits: .*vm_load_executable"):
        ENGINE.load(tmp_path / "honest", honest, OPTIONS)
    assert witness.exists()  # so the witness would have told


def test_another_processor_is_named_before_anything_is_opened(bundle: Path) -> None:
    (bundle / LIBRARY).unlink()
    manifest = read_manifest(bundle)
    wanted = msgspec.structs.replace(manifest.target, isa=("avx2", "fma"))
    with pytest.raises(ModelRefused, match="lacks fma"):
        Tvm(lambda: Processor(manifest.target.arch, frozenset({"avx2"}))).load(
            bundle, msgspec.structs.replace(manifest, target=wanted), OPTIONS
        )
    with pytest.raises(ModelRefused, match="nothing can emulate it"):
        Tvm(lambda: Processor("riscv64", frozenset())).load(bundle, manifest, OPTIONS)


def test_closing_unloads_the_code(bundle: Path) -> None:
    def mapped() -> bool:
        return str(bundle / LIBRARY) in Path("/proc/self/maps").read_text()

    instance = ENGINE.load(bundle, read_manifest(bundle), OPTIONS)
    assert mapped()
    instance.close()
    gc.collect()
    assert not mapped()


def test_two_versions_are_loaded_at_one_time(bundle: Path, tmp_path: Path) -> None:
    """As in a hot swap: the second must not be taken for the first."""
    model = onnx_model([helper.make_node("Mul", ["a", "a"], ["total"])], {"a": [1, 3]}, {"total": [1, 3]}, {})
    files = {LIBRARY: tvm_library(model, tmp_path)}
    second = write_engine_bundle(tmp_path / "second", "tvm", files, [spec("a")], [spec("total")])
    one = ENGINE.load(bundle, read_manifest(bundle), OPTIONS)
    two = ENGINE.load(tmp_path / "second", second, OPTIONS)
    a = np.array([[1, 2, 3]], np.float32)
    assert two.run({"a": a})["total"].tolist() == [[1, 4, 9]]
    assert one.run({"a": a, "b": a})["total"].tolist() == [[2, 4, 6]]
    one.close()
    assert two.run({"a": a})["total"].tolist() == [[1, 4, 9]]
