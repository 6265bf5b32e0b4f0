"""Whatever the bytes are: a bundle error of one line and nothing on disk, or the very bundle that was packed."""

from pathlib import Path

import pytest
from hypothesis import example, given, seed, settings
from hypothesis import strategies as st

from edgewright.bundle.archive import pack, unpack
from edgewright.bundle.errors import BundleError
from edgewright.bundle.golden import decode_golden
from edgewright.bundle.manifest_json import decode_manifest, encode_manifest
from edgewright.bundle.reference import decode_reference, encode_reference
from tests.bundle.samples import sample_golden, sample_manifest, sample_reference

QUICK = settings(deadline=None, max_examples=300)


def check_message(error: BundleError) -> None:
    assert str(error).isprintable()
    assert 10 < len(str(error)) < 1000


def check(data: bytes, folder: Path) -> bool:
    """Unpack; returns whether it was accepted. What is accepted has to pack to the same bytes."""
    archive = folder / "archive"
    archive.write_bytes(data)
    try:
        unpack(archive, folder / "out")
    except BundleError as error:
        check_message(error)
        assert {path.name for path in folder.iterdir()} == {"archive"}
        return False
    pack(folder / "out", folder / "again")
    assert (folder / "again").read_bytes() == data
    return True


@pytest.fixture(scope="module")
def good(sample_archive: Path) -> bytes:
    return sample_archive.read_bytes()


def test_every_truncation_is_refused(good: bytes, tmp_path: Path) -> None:
    for length in {*range(0, len(good), 61), *range(len(good) - 1030, len(good), 7)}:
        (tmp_path / f"{length}").mkdir()
        assert not check(good[:length], tmp_path / f"{length}")


@seed(1)
@QUICK
@given(data=st.data())
def test_a_flipped_bit_is_refused_outside_the_manifest(
    good: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Inside the manifest a flip may give another valid manifest: the archive's digest covers that."""
    end_of_manifest = good.index(b"golden.safetensors\0")
    at = data.draw(st.integers(0, len(good) - 1))
    flipped = bytearray(good)
    flipped[at] ^= 1 << data.draw(st.integers(0, 7))
    accepted = check(bytes(flipped), tmp_path_factory.mktemp("flip"))
    assert not accepted or 512 <= at < end_of_manifest


@seed(2)
@QUICK
@given(data=st.data())
def test_spliced_archives(good: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Blocks are dropped, repeated, swapped, zeroed: what an attacker with a hex editor would do."""
    blocks = [good[start : start + 512] for start in range(0, len(good), 512)]
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(blocks) - 1))
        action = data.draw(st.sampled_from(["drop", "repeat", "swap", "zero"]))
        if action == "drop" and len(blocks) > 1:
            del blocks[at]
        elif action == "repeat":
            blocks.insert(at, blocks[at])
        elif action == "swap":
            blocks[at], blocks[-1 - at] = blocks[-1 - at], blocks[at]
        else:
            blocks[at] = bytes(512)
    spliced = b"".join(blocks)
    assert check(spliced, tmp_path_factory.mktemp("splice")) == (spliced == good)


@seed(3)
@QUICK
@given(junk=st.binary(max_size=2000))
@example(b"")
def test_junk(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    assert not check(junk, tmp_path_factory.mktemp("junk"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@seed(4)
@QUICK
@given(data=st.data())
def test_manifest_with_a_changed_value(data: st.DataObject) -> None:
    import json

    from tests.bundle.samples import DIGEST

    plain = json.loads(encode_manifest(sample_manifest()))
    plain["entries"] = [
        {"path": path, "size_bytes": 1, "sha256": DIGEST.removeprefix("sha256:")}
        for path in ("golden.safetensors", "model/m", "reference.cbor", "sbom.cdx.json")
    ]
    place = plain
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not place[key] or not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(json_values)
    text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass") + b"\n"
    try:
        assert encode_manifest(decode_manifest(text)) == text
    except BundleError as error:
        check_message(error)


@seed(5)
@QUICK
@given(junk=st.binary(max_size=400))
def test_junk_manifest(junk: bytes) -> None:
    with pytest.raises(BundleError):
        decode_manifest(junk)


@seed(6)
@QUICK
@given(data=st.data())
def test_flipped_reference(data: st.DataObject) -> None:
    flipped = bytearray(encode_reference(sample_reference()))
    for _ in range(data.draw(st.integers(1, 3))):
        flipped[data.draw(st.integers(0, len(flipped) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert encode_reference(decode_reference(bytes(flipped))) == flipped
    except BundleError as error:
        check_message(error)


@seed(7)
@QUICK
@given(data=st.data())
def test_flipped_golden(data: st.DataObject) -> None:
    from edgewright.bundle.golden import encode_golden

    flipped = bytearray(encode_golden(sample_golden()))
    for _ in range(data.draw(st.integers(1, 3))):
        flipped[data.draw(st.integers(0, len(flipped) - 1))] = data.draw(st.integers(0, 255))
    length = data.draw(st.integers(0, len(flipped)) | st.just(len(flipped)))
    try:
        golden = decode_golden(bytes(flipped[:length]))
    except BundleError as error:
        check_message(error)
    else:
        assert golden.inputs
        assert golden.outputs
