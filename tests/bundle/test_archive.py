"""Packing and unpacking good bundles: one byte form, readable by tar, in little memory."""

import hashlib
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright.bundle.archive import archive_digest, pack, read_manifest, unpack, verify
from edgewright.bundle.errors import (
    DigestMismatchError,
    EntryTypeError,
    ExtraEntryError,
    MissingEntryError,
    NotABundleError,
    SizeMismatchError,
    StorageFault,
    TooLargeError,
    TooManyEntriesError,
)
from edgewright.bundle.stream import Limits
from tests.bundle.samples import pack_sample, write_sample


def test_digest_is_that_of_the_file(tmp_path: Path) -> None:
    archive, digest = pack_sample(tmp_path)
    assert digest == archive_digest(archive) == f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"


def test_the_same_content_gives_the_same_bytes_whatever_the_files_look_like(tmp_path: Path) -> None:
    first, _ = pack_sample(tmp_path, name="one")
    write_sample(tmp_path / "two")
    for path in (tmp_path / "two").rglob("*"):
        path.chmod(0o700)
    pack(tmp_path / "two", tmp_path / "two.bundle")
    assert first.read_bytes() == (tmp_path / "two.bundle").read_bytes()


def test_tar_reads_it(sample_archive: Path, tmp_path: Path) -> None:
    done = subprocess.run(["tar", "xf", sample_archive, "-C", tmp_path], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert verify(tmp_path) == verify(sample_archive)


@settings(deadline=None, max_examples=40)
@given(
    models=st.dictionaries(
        st.from_regex(r"[a-z0-9_][a-z0-9._+-]{0,20}", fullmatch=True), st.binary(max_size=1100), min_size=1, max_size=6
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, models: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("round")
    write_sample(folder / "in")
    (folder / "in" / "model" / "model.onnx").unlink()
    for name, content in models.items():
        (folder / "in" / "model" / name).write_bytes(content)
    manifest = _rewrite(folder / "in")
    digest = pack(folder / "in", folder / "archive")
    assert unpack(folder / "archive", folder / "out", expected_digest=digest) == manifest
    assert {name: (folder / "out" / "model" / name).read_bytes() for name in models} == models
    assert pack(folder / "out", folder / "again") == digest


def _rewrite(directory: Path) -> object:
    from edgewright.bundle.assemble import write_manifest

    return write_manifest(directory, read_manifest(directory))


def test_memory_does_not_grow_with_the_bundle(tmp_path: Path) -> None:
    size_bytes = 24 << 20
    archive, digest = pack_sample(tmp_path, model_bytes=bytes(size_bytes))
    tracemalloc.start()
    try:
        verify(archive)
        unpack(archive, tmp_path / "out", expected_digest=digest)
        pack(tmp_path / "out", tmp_path / "again")
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < 2 << 20


def test_only_what_the_agent_can_afford_is_imported() -> None:
    code = (
        "import sys; import edgewright.bundle.archive, edgewright.bundle.assemble, edgewright.bundle.reference, "
        "edgewright.bundle.sbom; print([m for m in ('numpy', 'safetensors', 'rich', 'tarfile') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_another_digest_is_refused(sample_archive: Path, tmp_path: Path) -> None:
    other = f"sha256:{'0' * 64}"
    with pytest.raises(DigestMismatchError, match="another bundle"):
        verify(sample_archive, expected_digest=other)
    with pytest.raises(DigestMismatchError, match="another bundle"):
        unpack(sample_archive, tmp_path / "out", expected_digest=other)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (Limits(archive_bytes=4096), TooLargeError),
        (Limits(manifest_bytes=1000), TooLargeError),
        (Limits(entries=3), TooManyEntriesError),
    ],
)
def test_limits_of_the_caller(sample_archive: Path, tmp_path: Path, limits: Limits, error: type[Exception]) -> None:
    with pytest.raises(error):
        unpack(sample_archive, tmp_path / "out", limits=limits)
    with pytest.raises(error):
        verify(sample_archive, limits=limits)
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_is_read_without_the_rest(sample_archive: Path, tmp_path: Path) -> None:
    head = tmp_path / "head"
    head.write_bytes(sample_archive.read_bytes()[:4096])
    assert read_manifest(head) == read_manifest(sample_archive)


class TestDirectory:
    """A bundle as a directory is checked as strictly as an archive."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_sample(tmp_path / "b")
        return tmp_path / "b"

    def refused(self, folder: Path, error: type[Exception]) -> None:
        with pytest.raises(error):
            verify(folder)
        with pytest.raises(error):
            pack(folder, folder.parent / "archive")
        assert [path.name for path in folder.parent.iterdir() if not path.name.startswith("b")] == []

    def test_good(self, folder: Path) -> None:
        assert verify(folder) == read_manifest(folder)

    def test_extra_file(self, folder: Path) -> None:
        (folder / "model" / "notes.txt").write_text("x")
        self.refused(folder, ExtraEntryError)

    def test_missing_file(self, folder: Path) -> None:
        (folder / "model" / "model.onnx").unlink()
        self.refused(folder, MissingEntryError)

    def test_changed_file(self, folder: Path) -> None:
        path = folder / "model" / "model.onnx"
        path.write_bytes(path.read_bytes().upper())
        self.refused(folder, DigestMismatchError)

    def test_longer_file(self, folder: Path) -> None:
        path = folder / "model" / "model.onnx"
        path.write_bytes(path.read_bytes() + b"x")
        self.refused(folder, SizeMismatchError)

    def test_linked_file(self, folder: Path) -> None:
        path = folder / "model" / "model.onnx"
        path.rename(folder.parent / "b.model")
        path.symlink_to(folder.parent / "b.model")
        self.refused(folder, EntryTypeError)

    def test_linked_folder(self, folder: Path) -> None:
        (folder / "model").rename(folder.parent / "b.model")
        (folder / "model").symlink_to(folder.parent / "b.model")
        self.refused(folder, EntryTypeError)

    def test_linked_manifest(self, folder: Path) -> None:
        (folder / "manifest.json").rename(folder.parent / "b.manifest")
        (folder / "manifest.json").symlink_to(folder.parent / "b.manifest")
        self.refused(folder, EntryTypeError)

    def test_linked_manifest_is_not_even_read(self, folder: Path) -> None:
        (folder / "manifest.json").rename(folder.parent / "b.manifest")
        (folder / "manifest.json").symlink_to(folder.parent / "b.manifest")
        with pytest.raises(EntryTypeError):
            read_manifest(folder)

    def test_pipe(self, folder: Path) -> None:
        import os

        os.mkfifo(folder / "pipe")
        self.refused(folder, EntryTypeError)

    def test_too_many_files(self, folder: Path) -> None:
        for number in range(300):
            (folder / "model" / f"{number}").touch()
        self.refused(folder, TooManyEntriesError)

    def test_no_manifest(self, folder: Path) -> None:
        (folder / "manifest.json").unlink()
        self.refused(folder, NotABundleError)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(EntryTypeError):
        verify(tmp_path / "pipe")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotABundleError, match="does not exist"):
        verify(tmp_path / "nothing")


def test_unpack_into_a_missing_folder(sample_archive: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageFault):
        unpack(sample_archive, tmp_path / "missing" / "out")
    assert list(tmp_path.iterdir()) == []


def test_pack_into_a_missing_folder_leaves_nothing(tmp_path: Path) -> None:
    write_sample(tmp_path / "b")
    with pytest.raises(StorageFault):
        pack(tmp_path / "b", tmp_path / "missing" / "archive")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
