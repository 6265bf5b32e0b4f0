"""Engine `native` over libraries of our compiler: right answers, in any batch and thread, nothing left behind."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewright.bundle.archive import read_manifest
from edgewright.bundle.manifest import Manifest, TensorSpec
from edgewright.bundle.native_call import InputRefused, NativeInstance
from edgewright.compiler.lower.native.machine import machine_of
from edgewright.runtime.engines.catalog import engine_for
from edgewright.runtime.engines.native import ENGINE
from edgewright.runtime.engines.protocol import LoadOptions
from edgewright.runtime.server.loading import load_bundle
from edgewright.targets.host import detect_host

from .native_bundle import (
    BATCHES,
    CLASSES,
    FEATURES,
    Classifier,
    classifier_bundle,
    compile_c,
    needs_gcc,
    write_native_bundle,
)

pytestmark = needs_gcc

HERE = machine_of(detect_host())
OPTIONS = LoadOptions()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("native") / "digits"
    classifier_bundle(directory, HERE, isa=HERE.isa)
    return directory


@pytest.fixture
def instance(bundle: Path) -> NativeInstance:
    return ENGINE.load(bundle, read_manifest(bundle), OPTIONS)


def images(rows: int, seed: int = 1) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=(rows, FEATURES)).astype(np.float32)


def test_a_bundle_proves_itself_and_is_served(bundle: Path) -> None:
    loaded = load_bundle(bundle, OPTIONS)
    assert engine_for(loaded.manifest) is ENGINE
    assert 0 < loaded.p50_s < 0.01
    loaded.instance.close()


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 8, 9, 16, 23, 64])
def test_batches_are_run_in_parts(instance: NativeInstance, rows: int) -> None:
    assert BATCHES == (1, 8)
    image = images(rows)
    scores = instance.run({"image": image})["scores"]
    assert scores.shape == (rows, CLASSES)
    assert np.allclose(scores, Classifier().scores(image), rtol=1e-5, atol=1e-5)


def test_a_batch_is_its_samples_one_by_one(instance: NativeInstance) -> None:
    image = images(21)
    together = instance.run({"image": image})["scores"]
    alone = [instance.run({"image": image[row : row + 1]})["scores"] for row in range(21)]
    assert together.tobytes() == np.concatenate(alone).tobytes()


def test_outputs_belong_to_the_caller(instance: NativeInstance) -> None:
    first = instance.run({"image": images(1)})["scores"]
    kept = first.copy()
    instance.run({"image": images(1, seed=2)})
    assert np.array_equal(first, kept)


def test_arrays_that_do_not_lie_in_one_piece_are_read_right(instance: NativeInstance) -> None:
    image = images(3)
    right = instance.run({"image": image})["scores"].tobytes()
    buffer = bytearray(image.nbytes + 1)
    odd = np.ndarray(image.shape, np.float32, buffer, offset=1)
    odd[...] = image
    read_only = image.copy()
    read_only.flags.writeable = False
    forms = (
        np.asfortranarray(image),
        np.repeat(image, 2, axis=1)[:, ::2],
        image[::-1].copy()[::-1],
        image.astype(">f4"),
        odd,
        read_only,
    )
    for form in forms:
        assert instance.run({"image": form})["scores"].tobytes() == right


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (None, "missing"),
        (np.float32(1), "missing or not an array"),
        ([[0.0] * FEATURES], "not an array"),
        (np.zeros((1, FEATURES)), "is float64"),
        (np.zeros((1, FEATURES + 1), np.float32), "expected float32"),
        (np.zeros((1, 1), np.float32), "expected float32"),
        (np.zeros(FEATURES, np.float32), "expected float32"),
        (np.zeros((1, FEATURES), np.int32), "is int32"),
    ],
)
def test_an_input_of_another_form_is_refused(instance: NativeInstance, array: object, complaint: str) -> None:
    inputs = {} if array is None else {"image": array}
    with pytest.raises(InputRefused, match=complaint):
        instance.run(inputs)  # type: ignore[arg-type]
    with pytest.raises(InputRefused, match="image"):
        instance.run({"image": images(1), "other": images(1)})
    assert np.allclose(instance.run({"image": images(1)})["scores"], Classifier().scores(images(1)), atol=1e-5)


def test_eight_threads_get_their_own_answers(instance: NativeInstance) -> None:
    """Arenas are a thread's own while it is inside."""
    inputs = [images(9, seed=seed) for seed in range(8)]
    expected = [instance.run({"image": image})["scores"].tobytes() for image in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        answers = (instance.run({"image": inputs[index]})["scores"] for _ in range(400))
        wrong.extend(index for answer in answers if answer.tobytes() != expected[index])

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_threads_are_inside_at_the_same_time(tmp_path: Path) -> None:
    """Each call waits until four are inside: they have four arenas, and none holds the interpreter's lock."""
    text = HAND_WRITTEN.replace(
        "BODY",
        """
        static int inside; // one for all threads
        __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        *(const void **)arena = in[0];
        for (long wait = 0; __atomic_load_n(&inside, __ATOMIC_SEQ_CST) < 4 && wait < 4000000000; wait++) {}
        ((int64_t *)out[0])[0] = *(const void **)arena == in[0] ? inside : -1;
        """,
    )
    instance = ENGINE.load(tmp_path / "b", hand_written_bundle(tmp_path, text), OPTIONS)
    found: list[int] = []
    inputs: list[dict[str, NDArray[Any]]] = [
        {"a": np.zeros((1, 3), np.float32), "b": np.zeros((12,), np.uint8)} for _ in range(4)
    ]

    def work(index: int) -> None:
        found.append(int(instance.run(inputs[index])["n"][0, 0]))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4, 4, 4, 4]


HAND_WRITTEN = """
#include "edgewright_native.h"
static const int64_t a1[] = {1, 3}, a4[] = {4, 3}, b[] = {12}, n1[] = {1, 1}, n4[] = {4, 1};
static const edgewright_tensor in1[] = {{"b", "UINT8", 1, 0, b, 12}, {"a", "FP32", 2, 0, a1, 12}};
static const edgewright_tensor in4[] = {{"b", "UINT8", 1, 0, b, 12}, {"a", "FP32", 2, 0, a4, 48}};
static const edgewright_tensor out1[] = {{"n", "INT64", 2, 0, n1, 8}};
static const edgewright_tensor out4[] = {{"n", "INT64", 2, 0, n4, 32}};
static void run1(const void *const *in, void *const *out, void *arena) { BODY }
static void run4(const void *const *in, void *const *out, void *arena) {
    for (int row = 0; row < 4; row++)
        ((int64_t *)out[0])[row] = 1000 + 10 * ((const float *)in[1])[3 * row + 2] + ((const uint8_t *)in[0])[1];
}
static const edgewright_entry entries[] = {
    {1, 64, 100, in1, out1, run1}, {4, 64, 200, in4, out4, run4}};
static const edgewright_model model = {1, 2, 1, 2, "hand", "", "gcc", entries};
const edgewright_model *edgewright_describe(void) { return &model; }
"""


def hand_written_bundle(folder: Path, text: str) -> Manifest:
    compile_c(folder / "hand.so", text)
    a, b = np.zeros((1, 3), np.float32), np.zeros((12,), np.uint8)
    return write_native_bundle(
        folder / "b",
        folder / "hand.so",
        [TensorSpec(name="a", datatype="FP32", shape=(-1, 3)), TensorSpec(name="b", datatype="UINT8", shape=(12,))],
        [TensorSpec(name="n", datatype="INT64", shape=(-1, 1))],
        ({"a": a, "b": b}, {"n": np.zeros((1, 1), np.int64)}),
    )


def test_inputs_come_in_the_librarys_order_and_one_may_have_no_batch(tmp_path: Path) -> None:
    """The manifest says a, b; the library b, a. An input without a batch axis is the same for all samples."""
    body = "((int64_t *)out[0])[0] = 10 * ((const float *)in[1])[2] + ((const uint8_t *)in[0])[1];"
    instance = ENGINE.load(tmp_path / "b", hand_written_bundle(tmp_path, HAND_WRITTEN.replace("BODY", body)), OPTIONS)
    a = np.arange(18, dtype=np.float32).reshape(6, 3)
    answer = instance.run({"a": a, "b": np.array([7, *[5] * 11], np.uint8)})["n"]
    assert answer.ravel().tolist() == [1025, 1055, 1085, 1115, 145, 175]
    with pytest.raises(InputRefused, match="'b'"):
        instance.run({"a": a, "b": np.full((1, 12), 5, np.uint8)})


def test_libraries_get_aligned_arrays(tmp_path: Path) -> None:
    """Not every processor reads a float from an odd address."""
    body = "((int64_t *)out[0])[0] = (uintptr_t)in[1] % 4;"
    instance = ENGINE.load(tmp_path / "b", hand_written_bundle(tmp_path, HAND_WRITTEN.replace("BODY", body)), OPTIONS)
    odd = np.ndarray((1, 3), np.float32, bytearray(13), offset=1)
    assert odd.ctypes.data % 4 != 0
    assert instance.run({"a": odd, "b": np.zeros(12, np.uint8)})["n"].tolist() == [[0]]


def test_copies_live_until_the_library_has_read_them(tmp_path: Path) -> None:
    """Both inputs are copied, to as many bytes: the second must not come to lie where the first one is."""
    body = "((int64_t *)out[0])[0] = 10 * ((const float *)in[1])[2] + ((const uint8_t *)in[0])[1];"
    instance = ENGINE.load(tmp_path / "b", hand_written_bundle(tmp_path, HAND_WRITTEN.replace("BODY", body)), OPTIONS)
    a, b = np.array([[2, 1, 0]], np.float32)[:, ::-1], np.full(24, 5, np.uint8)[::2]
    assert instance.run({"a": a, "b": b})["n"].tolist() == [[25]]


def test_a_new_version_at_the_same_descriptor_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    """The loader knows libraries by name, and these come by the number of a descriptor, which is used again."""
    for seed in (1, 2, 3):
        classifier_bundle(tmp_path / str(seed), HERE, seed=seed, batches=(1,))
        instance = ENGINE.load(tmp_path / str(seed), read_manifest(tmp_path / str(seed)), OPTIONS)
        found = instance.run({"image": images(1)})["scores"]
        assert np.allclose(found, Classifier(seed).scores(images(1)), atol=1e-5)
        if seed != 1:  # the first one stays
            instance.close()


def test_load_and_close_leave_nothing_behind(bundle: Path) -> None:
    manifest = read_manifest(bundle)

    def cycle() -> None:
        instance = ENGINE.load(bundle, manifest, OPTIONS)
        instance.run({"image": images(9)})
        instance.close()

    def after_cycles(count: int) -> tuple[int, int, int]:
        for _ in range(count):
            cycle()
        gc.collect()
        return footprint()

    footprints = [after_cycles(20)]
    # 5 kB for each cycle. What is left behind is so in each round; what others in this process need is not.
    for _ in range(4):
        footprints.append(after_cycles(200))
        if footprints[-1][2] - footprints[-2][2] < 1_000_000:
            break
    assert all(late <= early for late, early in zip(footprints[-1][:2], footprints[0][:2], strict=True))
    assert footprints[-1][2] - footprints[-2][2] < 1_000_000


def footprint() -> tuple[int, int, int]:
    """Mappings of model libraries, open files, and bytes of this process."""
    libraries = sum(
        "/proc/self/fd" in line or "model.so" in line for line in Path("/proc/self/maps").read_text().splitlines()
    )
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return libraries, len(list(Path("/proc/self/fd").iterdir())), resident


def test_a_closed_model_says_so(instance: NativeInstance) -> None:
    instance.close()
    with pytest.raises(RuntimeError, match="closed"):
        instance.run({"image": images(1)})
    instance.close()
