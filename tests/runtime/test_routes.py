"""The text of routes: what is read, and how what is wrong is refused."""

from __future__ import annotations

import contextlib
import random
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgewright.runtime.routes import (
    MAX_TEXT_BYTES,
    Arm,
    Canary,
    Cascade,
    Fallback,
    RoutesError,
    Shadow,
    Split,
    Target,
    parse_routes,
)
from tests.runtime.fuzzing import fuzz, mutated

EVERY_KIND = """
[routes.kws]
kind = "split"
arms = [{ model = "kws-a", weight = 90 }, { model = "kws-b", version = "2", weight = 10 }]
by = "key"
[routes.door]
kind = "canary"
primary = "door"
canary = { model = "door", version = "7" }
[routes.fan]
kind = "shadow"
primary = "fan-1"
shadow = "fan-2"
[routes.eye]
kind = "cascade"
stages = ["small", "large"]
threshold = 0.9
when_hot = "small"
[routes.ear]
kind = "fallback"
chain = ["kws", "eye"]
"""


def test_every_kind_is_read() -> None:
    routes = parse_routes(EVERY_KIND)
    assert routes["kws"] == Split(
        arms=(Arm(model="kws-a", weight=90), Arm(model="kws-b", version="2", weight=10)), by="key"
    )
    assert routes["door"] == Canary(primary="door", canary=Target(model="door", version="7"))
    assert routes["fan"] == Shadow(primary="fan-1", shadow="fan-2")
    assert routes["eye"] == Cascade(stages=("small", "large"), threshold=0.9, when_hot="small")
    assert routes["ear"] == Fallback(chain=("kws", "eye"))
    assert parse_routes("") == {}


def chained(count: int) -> str:
    parts = [f'[routes.r{n}]\nkind = "fallback"\nchain = ["r{n + 1}", "m"]\n' for n in range(count)]
    return "".join(parts)


CIRCLE = """
[routes.a]
kind = "fallback"
chain = ["b", "m"]
[routes.b]
kind = "fallback"
chain = ["a", "m"]
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[routes", "not TOML"),
        ("[route.a]", "unknown field `route`"),
        ('[routes.a]\nkind = "lottery"', "route 'a'.*'lottery'.*split, canary"),
        ('[routes.a]\nchain = ["b", "c"]', "route 'a'.*kind"),
        ('[routes.a]\nkind = "fallback"\nchain = ["b", "c"]\ncolour = 1', "route 'a'.*`colour`"),
        ('[routes.a]\nkind = "fallback"\nchain = ["b"]', "route 'a'.*length >= 2.*chain"),
        ('[routes.a]\nkind = "fallback"\nchain = ["b", "b"]', "leads to b twice"),
        ('[routes.a]\nkind = "fallback"\nchain = ["b", "../c"]', "route 'a'.*chain"),
        ('[routes."a/b"]\nkind = "fallback"\nchain = ["b", "c"]', "routes.*key"),
        ('[routes.a]\nkind = "split"\narms = [{ model = "b", weight = 0 }]', "all weights are 0"),
        ('[routes.a]\nkind = "split"\narms = [{ model = "b", weight = nan }]', "finite"),
        ('[routes.a]\nkind = "split"\narms = [{ model = "b", weight = -1 }]', "route 'a'.*>= 0"),
        ('[routes.a]\nkind = "canary"\nprimary = "b"\ncanary = "c"\nfraction = 0.9', "route 'a'.*<= 0.5"),
        (chained(1).replace('"m"', '"r1", "m"'), "r1 twice"),
        (CIRCLE, "a → b → a"),
        (chained(5), "nested 5 deep"),
        ("".join(f'[routes.r{n}]\nkind="fallback"\nchain=["a","b"]\n' for n in range(65)), "65 routes; at most 64"),
        ("a = " + "[" * 20_000, "nested too deeply"),
        ("a = " + "9" * 5000, "not TOML"),
        ("a = 1" + "_0" * 5000, "not TOML"),
        (".".join("a" * 32_000) + " = 1", "more than 16 parts"),
        ("#" * (MAX_TEXT_BYTES + 1), "at most 65536"),
    ],
)
def test_what_is_wrong_is_named(text: str, complaint: str) -> None:
    with pytest.raises(RoutesError, match=complaint):
        parse_routes(text)


def test_a_route_that_names_itself_means_the_model_it_shadows() -> None:
    assert parse_routes('[routes.a]\nkind = "canary"\nprimary = "a"\ncanary = "b"')
    assert parse_routes(chained(4))


def layer(name: str, following: str) -> str:
    arms = ", ".join(f'{{ model = "{following}{n}" }}' for n in range(16))
    return "".join(f'[routes.{name}{n}]\nkind = "split"\narms = [{arms}]\n' for n in range(16))


def test_many_ways_through_few_routes_cost_little() -> None:
    """Sixteen routes in each of four layers, each leading to all of the next: 65 536 ways, which took seconds."""
    text = layer("a", "b") + layer("b", "c") + layer("c", "d") + layer("d", "m")
    begun_s = time.process_time()
    assert len(parse_routes(text)) == 64
    assert time.process_time() - begun_s < 0.5


ROUTE_WORDS = [
    b'"a"',
    b"kind",
    b"arms = [",
    b"{ model = ",
    b"weight",
    b".",
    b"[[",
    b"]",
    b"inf",
    b"0x",
    b"9" * 5000,
    b"'",
]


def check_damaged(chance: random.Random) -> None:
    text = mutated(EVERY_KIND.encode(), chance, ROUTE_WORDS).decode(
        errors=chance.choice(["replace", "surrogateescape"])
    )
    begun_s = time.process_time()
    with contextlib.suppress(RoutesError):
        parse_routes(text)
    assert time.process_time() - begun_s < 2


def test_damaged_routes_are_refused_in_words_and_soon() -> None:
    fuzz(check_damaged)


@given(st.text(max_size=300))
@example("routes = 1")
@example("[routes]\na = 1")
@example("routes.a.kind = 1979-05-27")
@example("a = \ud800")
def test_no_text_gives_another_error(text: str) -> None:
    with contextlib.suppress(RoutesError):
        assert parse_routes(text) == parse_routes(text)
