"""The disk fills up, fails or loses power at every single step of an unpack."""

from pathlib import Path

import pytest

from edgewright.bundle.archive import unpack, verify
from edgewright.bundle.errors import DestinationExistsError, StorageFault
from edgewright.bundle.faulty_filesystem import FaultyFilesystem, PowerCutError
from tests.bundle.samples import pack_sample


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return pack_sample(tmp_path / "source")[0]


def count_steps(archive: Path, folder: Path) -> int:
    folder.mkdir()
    disk = FaultyFilesystem()
    unpack(archive, folder / "out", filesystem=disk)
    return disk.steps


def test_a_failing_step_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    steps = count_steps(archive, tmp_path / "healthy")
    assert steps > 15
    for step in range(1, steps + 1):
        folder = tmp_path / f"fail-{step}"
        folder.mkdir()
        with pytest.raises(StorageFault, match="Input/output error"):
            unpack(archive, folder / "out", filesystem=FaultyFilesystem(fail_at=step))
        assert list(folder.iterdir()) == []


def test_a_full_disk_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    for capacity_bytes in range(0, archive.stat().st_size - 5 * 1024, 97):
        folder = tmp_path / f"full-{capacity_bytes}"
        folder.mkdir()
        with pytest.raises(StorageFault, match="No space left"):
            unpack(archive, folder / "out", filesystem=FaultyFilesystem(capacity_bytes=capacity_bytes))
        assert list(folder.iterdir()) == []


def test_a_power_cut_leaves_all_or_nothing_under_the_name(archive: Path, tmp_path: Path) -> None:
    steps = count_steps(archive, tmp_path / "healthy")
    complete = 0
    for step in range(1, steps + 1):
        folder = tmp_path / f"cut-{step}"
        folder.mkdir()
        with pytest.raises(PowerCutError):
            unpack(archive, folder / "out", filesystem=FaultyFilesystem(power_cut_at=step))
        if (folder / "out").exists():
            complete += 1
            verify(folder / "out")
        else:
            unpack(archive, folder / "out")
        assert [path.name for path in folder.iterdir()] == ["out"]
    assert complete == 1  # only the last step, which makes the name durable, comes after the rename


def test_all_is_on_the_medium_before_the_name_appears(archive: Path, tmp_path: Path) -> None:
    """A rename that reaches the disk before the content would give a complete-looking bundle of zeros."""
    disk = FaultyFilesystem()
    unpack(archive, tmp_path / "out", filesystem=disk)
    renamed = disk.log.index(("rename", "out"))
    before = disk.log[:renamed]
    for operation, name in before:
        if operation == "create":
            assert ("sync_file", name) in before
        if operation == "make_directory":
            assert ("sync_directory", name) in before
    assert len([name for operation, name in before if operation == "create"]) == 5
    assert disk.log[renamed + 1 :] == [("sync_directory", tmp_path.name)]


def test_an_existing_destination_is_not_touched(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(DestinationExistsError):
        unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "precious"


def test_a_dangling_link_at_the_destination_is_not_followed(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationExistsError):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "elsewhere").exists()
