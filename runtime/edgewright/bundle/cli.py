"""`edgewright bundle`: look at bundles, check them, take them apart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

# The rest is imported inside the commands: `edgewright bundle --help` stays quick.

_EXISTING = click.Path(exists=True, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Put the file's name before what is wrong with it: the reader sees bytes, the user typed a path."""
    from .errors import BundleError

    try:
        yield
    except BundleError as error:
        raise type(error)(f"{path}: {str(error).removeprefix('bundle: ')}") from error


@click.group()
def bundle() -> None:
    """Inspect, verify and unpack bundles.

    A bundle is one model version compiled for one target: an archive as `edgewright compile` writes it, or the
    directory that comes out of `unpack`.
    """


@bundle.command(
    epilog="""\b
Examples:
  edgewright bundle inspect build/host.bundle
  edgewright bundle inspect build/host.bundle --json | jq .accuracy
"""
)
@click.argument("path", type=_EXISTING)
@_JSON
def inspect(path: Path, as_json: bool) -> None:
    """Show what a bundle says about itself (its manifest). Nothing else of it is read."""
    from .archive import read_manifest
    from .manifest_json import encode_manifest
    from .show import print_manifest

    with _naming(path):
        manifest = read_manifest(path)
    if as_json:
        click.echo(encode_manifest(manifest).decode(), nl=False)
    else:
        print_manifest(manifest)


@bundle.command(
    epilog="""\b
Examples:
  edgewright bundle verify build/host.bundle
  edgewright bundle verify build/host.bundle --digest sha256:2c26b46b…e7ae --json
"""
)
@click.argument("path", type=_EXISTING)
@click.option("--digest", metavar="SHA256:…", help="The archive has to have this digest.")
@_JSON
def verify(path: Path, digest: str | None, as_json: bool) -> None:
    """Check every byte of a bundle: form, sizes, digests, the files that have a form of their own, and that steps fit.

    Exit code 0 when all is well; 2 with one line that says what is wrong; 5 when this machine cannot read it.
    """
    from .archive import verify as verify_bundle
    from .archive import verify_archive
    from .processing import pipeline_of
    from .show import busy, print_verified

    if path.is_dir() and digest is not None:
        raise click.UsageError("--digest is for an archive; a directory has no digest.")
    archive_digest = None
    with _naming(path), busy(f"Verifying {path}"):
        if path.is_dir():
            manifest = verify_bundle(path)
        else:
            manifest, archive_digest = verify_archive(path, expected_digest=digest)
        pipeline_of(manifest)
    print_verified(manifest, archive_digest, path, as_json)


@bundle.command(
    epilog="""\b
Examples:
  edgewright bundle unpack build/host.bundle host
  edgewright bundle unpack build/host.bundle host --json
"""
)
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("destination", type=click.Path(path_type=Path))
@_JSON
def unpack(archive: Path, destination: Path, as_json: bool) -> None:
    """Verify a bundle and write its files to DESTINATION, which must not exist. It appears whole or not at all."""
    from .archive import unpack as unpack_archive
    from .show import busy, print_unpacked

    with _naming(archive), busy(f"Unpacking {archive}"):
        manifest = unpack_archive(archive, destination)
    print_unpacked(manifest, destination, as_json)
