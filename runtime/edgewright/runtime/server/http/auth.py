"""Bearer tokens from a file that may change while the server runs."""

from __future__ import annotations

import errno
import hashlib
import logging
import time
from _operator import _compare_digest  # what hmac exports; hmac itself would bring OpenSSL (see `lean_imports`)
from collections.abc import Mapping
from pathlib import Path

from ..refusal import Refusal
from .connections import Admits
from .messages import Handler, Request, Respond

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
"""How often it is looked whether the file changed."""
_LARGEST_BYTES = 64 * 1024
_OPEN = frozenset({b"/v2/health/live"})
"""What may be asked without a token: whether there is a server tells nothing that the open port does not."""


class Tokens:
    """The tokens of one file: one a line, empty lines and lines that begin with `#` are skipped."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            OSError: it cannot be read.
        """
        self._path = path
        self._digests: tuple[bytes, ...] = ()
        self._seen: tuple[int, ...] = ()
        self._looked_s = float("-inf")
        self._read()

    def allow(self, authorization: bytes | None, now_s: float) -> bool:
        """Return whether the value of an Authorization field carries one of the tokens.

        How long it takes tells nothing of the tokens: digests are compared, all of them, in constant time each.
        """
        self._look(now_s)
        scheme, _, token = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        digest = hashlib.sha256(token.strip()).digest()
        found = False
        for known in self._digests:
            found |= _compare_digest(digest, known)
        return found

    def _look(self, now_s: float) -> None:
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        try:
            self._read()
        except OSError as error:
            # Whoever takes the file away wants nobody in; the tokens that were in it are not kept.
            self._digests, self._seen = (), ()
            _log.error("tokens cannot be read, nobody is let in: %s", error)

    def _read(self) -> None:
        found = self._path.stat()
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen == self._seen:
            return
        if found.st_mode & 0o077:
            _log.warning("%s can be read by others than its owner", self._path)
        with self._path.open("rb") as file:
            text = file.read(_LARGEST_BYTES + 1)
        if len(text) > _LARGEST_BYTES:  # reading a part would make a token of the beginning of the last one
            raise OSError(errno.EFBIG, f"a file of tokens has at most {_LARGEST_BYTES} bytes", str(self._path))
        tokens = (line.strip() for line in text.split(b"\n"))
        self._digests = tuple(hashlib.sha256(token).digest() for token in tokens if token and token[:1] != b"#")
        self._seen = seen


def admission(tokens: Tokens) -> Admits:
    """Return what asks for a token, except for the question whether the server is alive."""

    def admits(target: bytes, headers: Mapping[bytes, bytes]) -> Refusal | None:
        if tokens.allow(headers.get(b"authorization"), time.monotonic()) or target in _OPEN:
            return None
        # A new one each time: an exception that is raised again keeps the frames of every time.
        return Refusal(
            401,
            "a token is needed: Authorization: Bearer …",
            headers=((b"www-authenticate", b'Bearer realm="edgewright"'),),
        )

    return admits


def with_tokens(handler: Handler, admits: Admits) -> Handler:
    """Return a handler that answers with what `admits` refuses."""

    def handle(request: Request, respond: Respond) -> None:
        refusal = admits(request.target, request.headers)
        if refusal is not None:
            raise refusal
        handler(request, respond)

    return handle
