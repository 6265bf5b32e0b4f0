"""Every kept bundle is accepted, or refused with the one error that it was made for, and leaves nothing behind."""

import json
from pathlib import Path

import pytest

from edgewright.bundle import errors
from edgewright.bundle.archive import pack, unpack, verify
from tests.vectors.make import FOLDER, all_vectors

EXPECTED: dict[str, str] = json.loads((FOLDER / "expected.json").read_text())
GOOD = [name for name, error in EXPECTED.items() if not error]
BAD = [name for name, error in EXPECTED.items() if error]


@pytest.mark.parametrize("name", GOOD)
def test_good(name: str, tmp_path: Path) -> None:
    manifest = unpack(FOLDER / name, tmp_path / "out")
    assert verify(tmp_path / "out") == verify(FOLDER / name) == manifest
    pack(tmp_path / "out", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (FOLDER / name).read_bytes()


@pytest.mark.parametrize("name", BAD)
def test_bad(name: str, tmp_path: Path) -> None:
    error = getattr(errors, EXPECTED[name])
    (tmp_path / "in").mkdir()
    with pytest.raises(errors.BundleError) as by_unpack:
        unpack(FOLDER / name, tmp_path / "in" / "out")
    with pytest.raises(errors.BundleError) as by_verify:
        verify(FOLDER / name)
    assert (type(by_unpack.value), type(by_verify.value)) == (error, error), by_unpack.value
    assert [path.name for path in tmp_path.rglob("*")] == ["in"]
    assert str(by_verify.value).isprintable()


def test_the_kept_vectors_are_what_make_writes() -> None:
    made = {f"{name}.bundle": data for name, data, _ in all_vectors()}
    assert made == {path.name: path.read_bytes() for path in FOLDER.glob("*.bundle")}
    assert made.keys() == EXPECTED.keys()


def test_every_error_has_a_vector() -> None:
    """Except those that an archive cannot cause by itself."""
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert kinds - set(EXPECTED.values()) == {"BundleError", "DestinationExistsError", "StorageFault"}
