"""Texts that cost a parser far more than their size, and those that are all right."""

from __future__ import annotations

import time
import tomllib

import pytest

from edgewright.runtime.bounded_toml import MAX_KEY_PARTS, BadToml, read_toml

SIZE = 60_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a." * (SIZE // 2) + "a = 1", "parts"),
        ("a . " * (SIZE // 4) + "a = 1", "parts"),
        ('"a.b".' * (SIZE // 6) + "a = 1", "parts"),
        ("'a'." * (SIZE // 4) + "a = 1", "parts"),
        ("[" + "a." * (SIZE // 2) + "a]", "parts"),
        ("x = {" + "a." * (SIZE // 2) + "a = 1}", "parts"),
        ("x = {y = '''z'''', " + "a." * (SIZE // 2) + "a = 1, z = 'b'}", "several lines"),
        ("x = " + "9" * SIZE, "digits"),
        ("x = " + "[" * SIZE, "deeply"),
        ("x = " + "{a=" * (SIZE // 3), "deeply"),
        ('"' * SIZE, "several lines"),
        ("x = '\ud800'", "surrogates"),
        ("'" + "a" * SIZE, "Expected"),
        ('"' + "\\" * SIZE, "string"),
        ("a" * SIZE, "'='"),
        ("a. " * (MAX_KEY_PARTS - 2) + "a" * SIZE, "'='"),
        (" " * SIZE + "a", "'='"),
    ],
)
def test_what_would_cost_much_is_refused_at_once(text: str, why: str) -> None:
    begun_s = time.process_time()
    with pytest.raises(BadToml, match=why):
        read_toml(text)
    assert time.process_time() - begun_s < 1


@pytest.mark.parametrize(
    "text",
    [
        "models.kws.breaker.errors = 3\n",
        '[models."a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s"]\nx = 1.5',
        "# don't: a.b.c.d.e.f.g.h\nx = [1.0, 2.0, 3.0, 4.0, 5.0]",
        "y = '" + "a." * 100 + "'",
        "v = [" + '"1.2.3.4", ' * 200 + "]",
    ],
)
def test_what_people_write_is_read(text: str) -> None:
    assert read_toml(text) == tomllib.loads(text)
