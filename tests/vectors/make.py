"""Make the bundle vectors again: `python -m tests.vectors.make` from the root. The result is the same bytes every time.

A good vector is accepted by every reader of this format version, for ever. A bad one has one defect, and
`expected.json` names the error that it must give. README.md lists the rules.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2

from edgewright.bundle.archive import pack
from edgewright.bundle.assemble import write_manifest
from edgewright.bundle.manifest import FORMAT_VERSION, Manifest
from edgewright.bundle.ustar import END, encode_header, padding
from tests.bundle.samples import processed_manifest, sample_manifest, write_sample

FOLDER = Path(__file__).parent / "bundle"

Files = dict[str, bytes]
Vector = tuple[str, bytes, str]
"""Name without the suffix, bytes, name of the error class ("" for a good one)."""


def raw_header(path: str, size_bytes: int, **changes: bytes) -> bytes:
    """A header with any path and any fields, and a correct checksum."""
    header = bytearray(encode_header("x", size_bytes))
    header[0:100] = path.encode().ljust(100, b"\0")
    places = {"mode": 100, "uid": 108, "size": 124, "mtime": 136, "type": 156, "link": 157, "uname": 265, "prefix": 345}
    for field, value in changes.items():
        header[places[field] : places[field] + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def entry(path: str, content: bytes, **changes: bytes) -> bytes:
    return raw_header(path, len(content), **changes) + content + bytes(padding(len(content)))


def archive(files: Files, replaced: dict[str, bytes] | None = None) -> bytes:
    """An archive of these files in canonical order; `replaced` gives whole entries (header and content) by path."""
    parts = {path: entry(path, content) for path, content in files.items()} | (replaced or {})
    return b"".join(parts[path] for path in sorted(parts, key=lambda path: (path != "manifest.json", path))) + END


def sample_files() -> Files:
    with tempfile.TemporaryDirectory() as folder:
        write_sample(Path(folder) / "sample")
        return read_folder(Path(folder) / "sample")


def read_folder(folder: Path) -> Files:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def described(files: Files, manifest: Manifest | None = None) -> Files:
    """The same files with a manifest that describes them, made by our own writer."""
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            if path != "manifest.json":
                (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
                (Path(folder) / path).write_bytes(content)
        write_manifest(Path(folder), manifest or sample_manifest())
        return read_folder(Path(folder))


def with_manifest(files: Files, change: Callable[[dict[str, Any]], None]) -> Files:
    """The same files with an edited manifest, in canonical spelling but unchecked."""
    manifest = json.loads(files["manifest.json"])
    change(manifest)
    return files | {"manifest.json": canonical(manifest)}


def canonical(manifest: dict[str, Any]) -> bytes:
    return json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def packed(files: Files) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            (Path(folder) / "b" / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "b" / path).write_bytes(content)
        pack(Path(folder) / "b", Path(folder) / "out")
        return (Path(folder) / "out").read_bytes()


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def good_vectors(files: Files) -> Iterator[Vector]:
    yield "good-minimal", packed(files), ""
    several = {"model/weights.bin": bytes(512), "model/empty": b"", "model/sub/part-1.bin": b"\xff" * 513}
    yield "good-several-files", packed(described(files | several)), ""
    yield "good-steps-and-state", packed(described(files, processed_manifest())), ""


def bad_archives(files: Files) -> Iterator[Vector]:
    good = archive(files)
    model = good.index(files["model/model.onnx"])
    yield "bad-empty", b"", "NotABundleError"
    yield "bad-not-an-archive", b"PK\x03\x04" + bytes(range(256)) * 4, "NotABundleError"
    yield "bad-only-end-mark", END, "NotABundleError"
    yield "bad-truncated-in-content", good[: model + 5], "TruncatedError"
    yield "bad-truncated-in-header", good[: model - 100], "TruncatedError"
    yield "bad-truncated-in-end-mark", good[:-512], "TruncatedError"
    yield "bad-truncated-after-manifest", good[: good.index(b"golden.safetensors\0")], "TruncatedError"
    yield "bad-trailing-byte", good + b"\n", "TrailingDataError"
    yield "bad-padded-record", good + bytes(10240 - len(good) % 10240), "TrailingDataError"
    yield "bad-bit-flip-in-content", flipped(good, model), "DigestMismatchError"
    yield "bad-bit-flip-in-header", flipped(good, model - 512), "DamagedHeaderError"
    yield "bad-bit-flip-in-checksum", flipped(good, model - 512 + 150), "DamagedHeaderError"
    yield "bad-bit-flip-in-padding", flipped(good, model + 100), "NotCanonicalError"
    yield "bad-bit-flip-in-end-mark", flipped(good, len(good) - 1), "NotCanonicalError"


def bad_entries(files: Files) -> Iterator[Vector]:
    model = files["model/model.onnx"]

    def replaced(path: str = "model/model.onnx", **changes: bytes) -> bytes:
        return archive(files, {"model/model.onnx": entry(path, model, **changes)})

    yield "bad-mtime", replaced(mtime=b"00000000001\0"), "NotCanonicalError"
    yield "bad-mode", replaced(mode=b"0000755\0"), "NotCanonicalError"
    yield "bad-owner", replaced(uid=b"0001750\0"), "NotCanonicalError"
    yield "bad-user-name", replaced(uname=b"root\0"), "NotCanonicalError"
    yield "bad-old-tar-type", replaced(type=b"\0"), "NotCanonicalError"
    yield "bad-size-base-256", replaced(size=b"\x80" + bytes(10) + b"\x10"), "DamagedHeaderError"
    yield "bad-size-negative", replaced(size=b"-0000000001\0"), "DamagedHeaderError"
    yield "bad-size-beyond-manifest", replaced(size=b"77777777777\0"), "SizeMismatchError"
    for name, flag in (("hard-link", b"1"), ("symlink", b"2"), ("character-device", b"3"), ("block-device", b"4")):
        yield f"bad-{name}", replaced(type=flag, link=b"/etc/passwd\0"), "EntryTypeError"
    for name, flag in (("directory", b"5"), ("pipe", b"6"), ("gnu-long-name", b"L"), ("pax-header", b"x")):
        yield f"bad-{name}", replaced(type=flag), "EntryTypeError"
    for name, path in (
        ("absolute-path", "/etc/cron.d/evil"),
        ("dotdot-path", "model/../../evil"),
        ("dot-path", "./model/model.onnx"),
        ("hidden-path", "model/.model.onnx"),
        ("backslash-path", "model\\model.onnx"),
        ("double-slash-path", "model//model.onnx"),
        ("space-path", "model/model .onnx"),
        ("deep-path", "a/" * 30 + "x"),
    ):
        yield f"bad-{name}", replaced(path), "UnsafePathError"
    yield "bad-prefix-path", replaced("model.onnx", prefix=b"model\0"), "NotCanonicalError"
    yield "bad-non-ascii-path", replaced("modèl/model.onnx"), "DamagedHeaderError"


def bad_sets(files: Files) -> Iterator[Vector]:
    model = entry("model/model.onnx", files["model/model.onnx"])
    good = archive(files)
    yield "bad-duplicate-entry", archive(files, {"model/model.onnx": model + model}), "DuplicateEntryError"
    yield "bad-duplicate-manifest", good[:-1024] + entry("manifest.json", b"{}") + END, "DuplicateEntryError"
    yield "bad-missing-entry", archive(files, {"model/model.onnx": b""}), "MissingEntryError"
    yield "bad-missing-last-entry", archive(files, {"sbom.cdx.json": b""}), "MissingEntryError"
    yield "bad-extra-entry", archive(files | {"model/extra": b"x"}), "ExtraEntryError"
    yield "bad-extra-last-entry", archive(files | {"zzz": b"x"}), "ExtraEntryError"
    swapped = {"model/model.onnx": b"", "reference.cbor": entry("reference.cbor", files["reference.cbor"]) + model}
    yield "bad-unsorted", archive(files, swapped), "MissingEntryError"
    yield "bad-manifest-not-first", entry("golden.safetensors", files["golden.safetensors"]) + good, "NotABundleError"
    yield (
        "bad-larger-than-manifest-says",
        archive(files | {"model/model.onnx": b"longer than it was"}),
        "SizeMismatchError",
    )
    other = bytes(len(files["model/model.onnx"]))
    yield "bad-digest", archive(files | {"model/model.onnx": other}), "DigestMismatchError"
    huge = entry("manifest.json", b"", size=b"00010000000\0")
    yield "bad-manifest-too-large", huge + files["manifest.json"], "TooLargeError"


def bad_version_2_manifests(files: Files) -> Iterator[Vector]:
    files = described(files, processed_manifest())

    def edited(change: Callable[[dict[str, Any]], None]) -> bytes:
        return archive(with_manifest(files, change))

    yield "bad-version-1-with-state", edited(lambda m: m.update(format_version=1)), "ManifestError"
    yield "bad-state-name", edited(lambda m: m["state"][0].update(input="nowhere")), "ManifestError"
    yield "bad-state-twice", edited(lambda m: m["state"].append(m["state"][0])), "ManifestError"
    yield "bad-state-shape", edited(lambda m: m["outputs"][1].update(shape=[-1, 9])), "ManifestError"
    yield "bad-state-of-all", edited(lambda m: m.update(inputs=m["inputs"][1:])), "ManifestError"
    yield "bad-step-unknown", edited(lambda m: m["preprocess"][0].update(step="exec")), "ManifestError"
    yield "bad-step-option", edited(lambda m: m["preprocess"][0].update(extra=1)), "ManifestError"
    yield "bad-step-bounds", edited(lambda m: m["preprocess"][0].update(scale=1e31)), "ManifestError"
    yield "bad-steps-too-many", edited(lambda m: m.update(preprocess=m["preprocess"] * 33)), "ManifestError"


def bad_manifests(files: Files) -> Iterator[Vector]:
    def edited(change: Callable[[dict[str, Any]], None]) -> bytes:
        return archive(with_manifest(files, change))

    def text(manifest: bytes) -> bytes:
        return archive(files | {"manifest.json": manifest})

    good = files["manifest.json"]
    newer = FORMAT_VERSION + 1
    yield "bad-format-newer", edited(lambda m: m.update(format_version=newer, future="field")), "UnsupportedFormatError"
    yield "bad-format-older", edited(lambda m: m.update(format_version=0)), "UnsupportedFormatError"
    yield "bad-format-missing", edited(lambda m: m.pop("format_version")), "ManifestError"
    yield "bad-format-not-a-number", edited(lambda m: m.update(format_version=True)), "ManifestError"
    yield "bad-manifest-empty", text(b""), "ManifestError"
    yield "bad-manifest-not-json", text(good[:-10]), "ManifestError"
    yield "bad-manifest-not-utf8", text(good.replace(b"digits", b"digi\xff\xff")), "ManifestError"
    yield "bad-manifest-array", text(b"[]\n"), "ManifestError"
    yield "bad-manifest-nan", text(good.replace(b'"p50_ms": 0.5', b'"p50_ms": NaN')), "ManifestError"
    yield "bad-manifest-infinity", text(good.replace(b'"p50_ms": 0.5', b'"p50_ms": 1e999')), "ManifestError"
    twice = good.replace(b'"model": "digits"', b'"model": "digits",\n  "model": "other"')
    yield "bad-manifest-duplicate-key", text(twice), "ManifestDuplicateKeyError"
    yield "bad-manifest-deep", text(b"[" * 1000 + b"]" * 1000), "ManifestTooDeepError"
    yield "bad-manifest-spaces", text(good.replace(b'"model":', b'"model": ')), "NotCanonicalError"
    yield "bad-manifest-no-newline", text(good[:-1]), "NotCanonicalError"
    yield "bad-manifest-unknown-field", edited(lambda m: m.update(extra=1)), "ManifestError"
    yield "bad-manifest-missing-field", edited(lambda m: m.pop("target")), "ManifestError"
    yield "bad-manifest-wrong-type", edited(lambda m: m.update(security_epoch="0")), "ManifestError"
    yield "bad-manifest-negative-epoch", edited(lambda m: m.update(security_epoch=-1)), "ManifestError"
    yield "bad-manifest-model-path", edited(lambda m: m.update(model="../evil")), "ManifestError"
    yield "bad-manifest-escape-codes", edited(lambda m: m.update(flags=["\x1b[2J"])), "ManifestError"

    def entries(change: Callable[[list[dict[str, Any]]], Any]) -> bytes:
        return edited(lambda manifest: change(manifest["entries"]))

    first = json.loads(good)["entries"][0]
    yield "bad-entries-dotdot", entries(lambda e: e[0].update(path="../evil")), "UnsafePathError"
    yield "bad-entries-absolute", entries(lambda e: e[0].update(path="/evil")), "UnsafePathError"
    yield "bad-entries-duplicate", entries(lambda e: e.insert(0, first)), "DuplicateEntryError"
    yield (
        "bad-entries-file-and-folder",
        entries(lambda e: e.insert(1, first | {"path": "model"})),
        "DuplicateEntryError",
    )
    yield (
        "bad-entries-the-manifest",
        entries(lambda e: e.insert(1, first | {"path": "manifest.json"})),
        "DuplicateEntryError",
    )
    yield "bad-entries-unsorted", entries(lambda e: e.reverse()), "NotCanonicalError"
    yield "bad-entries-no-golden", entries(lambda e: e.pop(0)), "MissingEntryError"
    yield "bad-entries-no-model", entries(lambda e: e.pop(1)), "MissingEntryError"
    yield "bad-entries-too-large", entries(lambda e: e[1].update(size_bytes=2**40)), "TooLargeError"
    yield "bad-entries-golden-too-large", entries(lambda e: e[0].update(size_bytes=2**28)), "TooLargeError"
    many = [first | {"path": f"model/{number:04}"} for number in range(257)]
    yield "bad-entries-too-many", entries(lambda e: e.extend(many)), "TooManyEntriesError"


def _shared_golden_header() -> dict[str, Any]:
    """Input and output lie in the same bytes."""
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    tolerances = {"relative_tolerance": "0", "absolute_tolerance": "0"}
    return {"__metadata__": tolerances, "input/x": tensor, "output/y": tensor}


def bad_contents(files: Files) -> Iterator[Vector]:
    """Digests are right here; the file itself is not what it should be."""
    golden, reference = files["golden.safetensors"], files["reference.cbor"]

    def golden_is(content: bytes) -> bytes:
        return archive(described(files | {"golden.safetensors": content}))

    def reference_is(content: bytes) -> bytes:
        return archive(described(files | {"reference.cbor": content}))

    yield "bad-golden-empty", golden_is(b""), "GoldenError"
    yield "bad-golden-huge-header", golden_is((2**62).to_bytes(8, "little") + golden[8:]), "GoldenError"
    yield "bad-golden-truncated", golden_is(golden[:-4]), "GoldenError"
    yield "bad-golden-overlap", golden_is(golden.replace(b"[32,56]", b"[24,48]")), "GoldenError"
    shared = json.dumps(_shared_golden_header()).encode()
    yield "bad-golden-shared-data", golden_is(len(shared).to_bytes(8, "little") + shared + bytes(4)), "GoldenError"
    yield "bad-golden-dtype", golden_is(golden.replace(b'"F32"', b'"O99"')), "GoldenError"
    yield "bad-golden-tolerance", golden_is(golden.replace(b'"0.001"', b'"  nan"')), "GoldenError"
    yield "bad-golden-no-outputs", golden_is(golden.replace(b"output/", b"input_/")), "GoldenError"
    plain = cbor2.loads(reference)

    def recoded(change: Callable[[dict[str, Any]], None]) -> bytes:
        edited = cbor2.loads(reference)
        change(edited)
        return reference_is(cbor2.dumps(edited, canonical=True))

    yield "bad-reference-empty", reference_is(b""), "DriftReferenceError"
    yield "bad-reference-not-cbor", reference_is(b"\xff" + reference), "DriftReferenceError"
    yield "bad-reference-trailing", reference_is(reference + b"\0"), "DriftReferenceError"
    yield "bad-reference-not-canonical", reference_is(cbor2.dumps(plain)), "DriftReferenceError"
    yield "bad-reference-shared-values", reference_is(b"\xd8\x1c" + reference), "DriftReferenceError"
    yield "bad-reference-deep", reference_is(b"\x81" * 500 + b"\x00"), "DriftReferenceError"
    yield "bad-reference-newer", recoded(lambda r: r.update(version=2)), "UnsupportedFormatError"
    yield "bad-reference-unknown-field", recoded(lambda r: r.update(extra=1)), "DriftReferenceError"
    yield "bad-reference-edges-fall", recoded(lambda r: r["histograms"][0]["edges"].reverse()), "DriftReferenceError"
    yield "bad-reference-counts", recoded(lambda r: r["histograms"][0]["counts"].pop()), "DriftReferenceError"
    yield (
        "bad-reference-negative",
        recoded(lambda r: r["histograms"][0]["counts"].__setitem__(0, -1)),
        "DriftReferenceError",
    )
    yield "bad-reference-table", recoded(lambda r: r["confidence_table"].append(2.0)), "DriftReferenceError"


def all_vectors() -> Iterator[Vector]:
    files = sample_files()
    yield from good_vectors(files)
    for family in (bad_archives, bad_entries, bad_sets, bad_manifests, bad_version_2_manifests, bad_contents):
        yield from family(files)


def main() -> None:
    """Write all vectors and expected.json."""
    FOLDER.mkdir(exist_ok=True)
    expected: dict[str, str] = {}
    for name, data, error in all_vectors():
        if f"{name}.bundle" in expected:
            raise ValueError(f"two vectors are called {name}")
        expected[f"{name}.bundle"] = error
        (FOLDER / f"{name}.bundle").write_bytes(data)
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
