"""What is not the file of the manifest, not for this processor, or describes itself wrongly is not run."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from edgewright.bundle.archive import read_manifest
from edgewright.bundle.errors import BundleError
from edgewright.bundle.manifest import Entry, Manifest, TensorSpec
from edgewright.bundle.native_library import NativeLibrary, NativeLibraryError
from edgewright.compiler.lower.native.machine import machine_of
from edgewright.runtime.engines.native import ENGINE, Native
from edgewright.runtime.engines.protocol import LoadOptions, ModelRefused
from edgewright.runtime.engines.verified_file import Processor
from edgewright.runtime.server.loading import load_bundle
from edgewright.targets.host import detect_host

from .native_bundle import classifier_bundle, compile_c, needs_gcc, write_native_bundle

pytestmark = needs_gcc

HERE = machine_of(detect_host())
OPTIONS = LoadOptions()
LIBRARY = "model/model.so"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("native") / "digits"
    classifier_bundle(directory, HERE, isa=HERE.isa, batches=(1,))
    return directory


@pytest.fixture
def bundle(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "digits"))


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


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (append, "not the file that its manifest describes"),
        (flip, "not the file that its manifest describes"),
        (link, "symbolic link"),
        (pipe, "not a regular file"),
        (Path.unlink, "does not exist"),
    ],
)
def test_another_file_is_not_loaded(bundle: Path, change: Callable[[Path], None], complaint: str) -> None:
    change(bundle / LIBRARY)
    with pytest.raises(ModelRefused, match=complaint):
        ENGINE.load(bundle, read_manifest(bundle), OPTIONS)


def test_no_code_of_a_changed_file_runs(bundle: Path, tmp_path: Path) -> None:
    """Loading a library runs its constructors: the check has to come first."""
    witness = tmp_path / "ran"
    text = f"""
    #include <fcntl.h>
    __attribute__((constructor)) static void ran(void) {{ open("{witness}", O_CREAT | O_WRONLY, 0600); }}
    """
    compile_c(bundle / LIBRARY, text)
    with pytest.raises(ModelRefused, match="not the file"):
        ENGINE.load(bundle, read_manifest(bundle), OPTIONS)
    assert not witness.exists()
    with pytest.raises(ModelRefused, match="not a compiled model"):
        ENGINE.load(bundle, with_library(read_manifest(bundle), bundle / LIBRARY), OPTIONS)
    assert witness.exists()  # so the witness would have told


def with_library(manifest: Manifest, library: Path) -> Manifest:
    """The manifest as it would be if the bundle had been made with this file."""
    content = library.read_bytes()
    entry = Entry(path=LIBRARY, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    others = [each for each in manifest.entries if each.path != LIBRARY]
    return msgspec.structs.replace(manifest, entries=(*others, entry))


def test_a_bundle_without_a_library_is_refused(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    without = msgspec.structs.replace(
        manifest, entries=tuple(entry for entry in manifest.entries if entry.path != LIBRARY)
    )
    with pytest.raises(ModelRefused, match=r"has no model/model\.so"):
        ENGINE.load(bundle, without, OPTIONS)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"treads": 2}, "no option 'treads'"),
        ({"threads": 0}, "threads of engine native is 0"),
        ({"threads": True}, "is True"),
        ({"threads": "2"}, "is '2'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    bundle: Path, options: dict[str, str | int | bool], complaint: str
) -> None:
    manifest = read_manifest(bundle)
    engine = msgspec.structs.replace(manifest.engine, options=options)
    with pytest.raises(ModelRefused, match=complaint):
        ENGINE.load(bundle, msgspec.structs.replace(manifest, engine=engine), OPTIONS)


def test_features_that_are_missing_are_named_before_anything_is_opened(bundle: Path) -> None:
    (bundle / LIBRARY).unlink()
    manifest = read_manifest(bundle)
    wanted = msgspec.structs.replace(manifest.target, isa=("avx2", "avx512_vnni", "fma"))
    older = Native(lambda: Processor(manifest.target.arch, frozenset({"avx2"})))
    with pytest.raises(ModelRefused, match="lacks avx512_vnni, fma"):
        older.load(bundle, msgspec.structs.replace(manifest, target=wanted), OPTIONS)


def test_features_that_only_the_library_names_are_asked_for_too(bundle: Path) -> None:
    if not HERE.isa:
        pytest.skip("this processor has no vector extension beyond its base")
    manifest = read_manifest(bundle)
    silent = msgspec.structs.replace(manifest, target=msgspec.structs.replace(manifest.target, isa=()))
    with pytest.raises(ModelRefused, match=f"lacks {', '.join(HERE.isa)}"):
        Native(lambda: Processor(manifest.target.arch, frozenset())).load(bundle, silent, OPTIONS)


def test_code_for_another_architecture_is_refused_even_where_it_is_to_be_emulated(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    other = Native(lambda: Processor("aarch64" if manifest.target.arch != "aarch64" else "x86_64", frozenset()))
    with pytest.raises(ModelRefused, match="nothing can emulate it"):
        other.load(bundle, manifest, LoadOptions(emulated=True))


@pytest.mark.parametrize(
    ("role", "spec"),
    [
        ("inputs", TensorSpec(name="picture", datatype="FP32", shape=(-1, 64))),
        ("inputs", TensorSpec(name="image", datatype="INT32", shape=(-1, 64))),
        ("inputs", TensorSpec(name="image", datatype="FP32", shape=(-1, 65))),
        ("inputs", TensorSpec(name="image", datatype="FP32", shape=(2, 64))),
        ("inputs", TensorSpec(name="image", datatype="FP32", shape=(-1, -1))),
        ("outputs", TensorSpec(name="scores", datatype="FP32", shape=(-1, 2, 5))),
        ("outputs", TensorSpec(name="scores", datatype="FP32", shape=(1, 10))),
    ],
)
def test_a_manifest_that_says_otherwise_is_refused(bundle: Path, role: str, spec: TensorSpec) -> None:
    manifest = msgspec.structs.replace(read_manifest(bundle), **{role: (spec,)})
    with pytest.raises(ModelRefused, match=r"manifest says|cannot be run in parts"):
        ENGINE.load(bundle, manifest, OPTIONS)


def test_a_fixed_batch_is_taken_as_it_is(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    fixed = msgspec.structs.replace(
        manifest,
        inputs=(TensorSpec(name="image", datatype="FP32", shape=(1, 64)),),
        outputs=(TensorSpec(name="scores", datatype="FP32", shape=(1, 10)),),
    )
    instance = ENGINE.load(bundle, fixed, OPTIONS)
    assert instance.run({"image": np.zeros((1, 64), np.float32)})["scores"].shape == (1, 10)


def test_any_batch_needs_an_entry_for_one_sample(tmp_path: Path) -> None:
    manifest = classifier_bundle(tmp_path / "eight", HERE, batches=(8,))
    with pytest.raises(ModelRefused, match="smallest entry is for 8"):
        ENGINE.load(tmp_path / "eight", manifest, OPTIONS)


def test_a_wrong_answer_fails_the_golden_test(original: Path, tmp_path: Path) -> None:
    manifest = read_manifest(original)
    samples = np.ones((2, 64), np.float32)
    write_native_bundle(
        tmp_path / "wrong",
        original / LIBRARY,
        manifest.inputs,
        manifest.outputs,
        ({"image": samples}, {"scores": np.full((2, 10), 9, np.float32)}),
    )
    with pytest.raises(Exception, match="golden self-test failed"):
        load_bundle(tmp_path / "wrong", OPTIONS)


MODEL = """
#include "edgewright_native.h"
#ifndef ABI
#define ABI 1
#endif
#ifndef COUNTS
#define COUNTS 1, 1, 1
#endif
#ifndef NAME
#define NAME "x"
#endif
#ifndef DATATYPE
#define DATATYPE "FP32"
#endif
#ifndef RANK
#define RANK 1
#endif
#ifndef SHAPE
#define SHAPE shape
#endif
#ifndef BYTES
#define BYTES 16
#endif
#ifndef INPUTS
#define INPUTS in
#endif
#ifndef ENTRY
#define ENTRY {1, 64, 64, INPUTS, in, run}
#endif
#ifndef ISA
#define ISA ""
#endif
#ifndef ENTRIES
#define ENTRIES entries
#endif
#ifndef DESCRIBED
#define DESCRIBED &model
#endif
static const int64_t shape[] = {4, -1, 4};
#define TENSOR {NAME, DATATYPE, RANK, 0, SHAPE, BYTES}
static const char endless[5000] = {[0 ... 4999] = 'a'};
static const edgewright_tensor in[] = {TENSOR, TENSOR};
static void run(const void *const *x, void *const *y, void *arena) {}
static const edgewright_entry entries[] = {ENTRY};
static const edgewright_model model = {ABI, COUNTS, "m", ISA, "gcc", ENTRIES};
const edgewright_model *edgewright_describe(void) { return DESCRIBED; }
"""


def test_the_plain_description_is_read(tmp_path: Path) -> None:
    compile_c(tmp_path / "m.so", MODEL)
    library = NativeLibrary(tmp_path / "m.so")
    assert [entry.inputs[0].shape for entry in library.entries] == [(4,)]
    library.close()


@pytest.mark.parametrize(
    ("definition", "complaint"),
    [
        ("DESCRIBED 0", "does not describe itself"),
        ("ABI 2", "has ABI 2, this version calls 1"),
        ("COUNTS 1, 1, 0", "0 entries"),
        ("COUNTS 1, 1, 4000000000", "4000000000 entries"),
        ("COUNTS 4000000000, 1, 1", "4000000000 inputs"),
        ("COUNTS 1, 4000000000, 1", "4000000000 outputs"),
        ("COUNTS 1, 0, 1", "0 outputs"),
        ("COUNTS 2, 1, 1", "two inputs of the same name"),
        ("ENTRIES 0", "entries"),
        ("INPUTS 0", "no inputs"),
        ("NAME 0", "name is missing"),
        ("NAME endless", "no end within"),
        ('NAME "\\xff\\xfe"', "not UTF-8"),
        ("ISA 0", "isa is missing"),
        ("DATATYPE 0", "datatype is missing"),
        ('DATATYPE "BYTES"', "'BYTES'"),
        ("RANK 4000000000", "rank 4000000000"),
        ("SHAPE 0", "rank 1"),
        ("RANK 3", "-1"),
        ("BYTES 20", "in 20 bytes"),
        ("BYTES 0xffffffffffffffff", "FP32"),
        ("ENTRY {0, 64, 64, in, in, run}", "batch 0"),
        ("ENTRY {4000000000, 64, 64, in, in, run}", "batch 4000000000"),
        ("ENTRY {1, 0, 64, in, in, run}", "multiples of 0"),
        ("ENTRY {1, 48, 64, in, in, run}", "multiples of 48"),
        ("ENTRY {1, 1073741824, 64, in, in, run}", "multiples of 1073741824"),
        ("ENTRY {1, 64, 0xffffffffffffffff, in, in, run}", "arena"),
        ("ENTRY {1, 64, 64, in, in, 0}", "address 0x0"),
        ("COUNTS 1, 1, 2\n#define ENTRY {1, 64, 64, in, in, run}, {1, 64, 64, in, in, run}", "batch sizes"),
    ],
)
def test_an_impossible_description_is_a_sentence(tmp_path: Path, definition: str, complaint: str) -> None:
    compile_c(tmp_path / "m.so", f"#define {definition}\n{MODEL}")
    with pytest.raises(NativeLibraryError, match=complaint):
        NativeLibrary(tmp_path / "m.so")


@pytest.mark.parametrize("content", [b"", b"\x7fELF", b"not a library", bytes(4096)])
def test_what_is_no_library_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.so").write_bytes(content)
    with pytest.raises(BundleError, match=r"m\.so cannot be loaded"):
        NativeLibrary(tmp_path / "m.so")
