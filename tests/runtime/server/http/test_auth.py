"""Tokens: who has one is let in, and the file may change at any time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.runtime.server.http.auth import Tokens, admission, with_tokens
from edgewright.runtime.server.http.messages import Request, Respond, Response
from edgewright.runtime.server.refusal import Refusal


def write(path: Path, text: str) -> Path:
    """Replace the file, as an editor or a configuration system does."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.chmod(0o600)
    temporary.replace(path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "tokens", "# for the camera\nfirst-token\n\n  second-token  \n")


def test_each_token_of_the_file_opens(path: Path) -> None:
    tokens = Tokens(path)
    for header in (b"Bearer first-token", b"bearer second-token", b"BEARER  first-token "):
        assert tokens.allow(header, 0.0), header


@pytest.mark.parametrize(
    "header",
    [None, b"", b"Bearer", b"Bearer ", b"Bearer third", b"first-token", b"Basic first-token", b"Bearer first-token x",
     b"Bearer # for the camera", b"Bearer FIRST-TOKEN", b"Bearer first-toke", b"Bearer first-token\xff"],
)  # fmt: skip
def test_anything_else_does_not(path: Path, header: bytes | None) -> None:
    assert not Tokens(path).allow(header, 0.0)


@given(st.binary(max_size=64))
def test_no_chance_hit(header: bytes) -> None:
    assert not Tokens(Path(os.devnull)).allow(header, 0.0)


def test_the_file_is_read_again_when_it_changes(path: Path) -> None:
    tokens = Tokens(path)
    assert tokens.allow(b"Bearer first-token", 0.0)
    write(path, "third-token\n")
    assert tokens.allow(b"Bearer third-token", 2.0)
    assert not tokens.allow(b"Bearer first-token", 2.0)


def test_without_the_file_nobody_is_let_in_until_it_is_back(path: Path) -> None:
    tokens = Tokens(path)
    path.unlink()
    assert not tokens.allow(b"Bearer first-token", 2.0)
    write(path, "first-token")
    assert tokens.allow(b"Bearer first-token", 4.0)


def test_a_file_that_is_too_long_makes_no_token_of_a_part_of_one(path: Path) -> None:
    """65536 bytes of it end within the last token; whoever guesses its first letters must not be let in."""
    last = "x" * 40
    write(path, "\n" * (64 * 1024 - 3) + last)
    with pytest.raises(OSError, match="at most 65536 bytes"):
        Tokens(path)
    write(path, "\n" * (64 * 1024 - 40) + last)
    tokens = Tokens(path)
    assert tokens.allow(b"Bearer " + last.encode(), 0.0)
    write(path, "\n" * (64 * 1024 - 3) + last)
    assert not tokens.allow(b"Bearer xxx", 2.0)


def test_a_file_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Tokens(tmp_path / "absent")


def test_only_whether_it_is_alive_may_be_asked_without(path: Path) -> None:
    def hello(request: Request, respond: Respond) -> None:
        respond(Response(200, [request.target]))

    answers: list[Response] = []
    handler = with_tokens(hello, admission(Tokens(path)))
    handler(Request(b"GET", b"/v2/health/live", {}, memoryview(b""), True, 1, 0), answers.append)
    fields = {b"authorization": b"Bearer first-token"}
    handler(Request(b"GET", b"/v2", fields, memoryview(b""), True, 1, 0), answers.append)
    assert [answer.status for answer in answers] == [200, 200]
    for target in (b"/v2", b"/v2/health/live/", b"/v2/health/live?x", b"/v2/health/ready", b"/metrics"):
        with pytest.raises(Refusal) as caught:
            handler(Request(b"GET", target, {}, memoryview(b""), True, 1, 0), answers.append)
        assert caught.value.status == 401
        assert dict(caught.value.headers)[b"www-authenticate"].startswith(b"Bearer")


def test_strangers_that_are_refused_again_and_again_leave_nothing_behind(path: Path) -> None:
    """An exception that is raised twice keeps the frames of both times: one for all would grow with each of them."""

    def answer(request: Request, respond: Respond) -> None:
        respond(Response(200, [request.target]))

    handle = with_tokens(answer, admission(Tokens(path)))
    refused = Request(b"GET", b"/v2", {}, memoryview(b""), keep_alive=True, http_minor=1, received_ns=0)
    answers: list[Response] = []
    frames = 0
    for _ in range(10):
        with pytest.raises(Refusal) as caught:
            handle(refused, answers.append)
        frames = len(caught.traceback)
    assert frames <= 2, "this test and the handler"
