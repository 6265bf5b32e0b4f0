"""Queries: what they mean, how they are refused, and that no text breaks or slows the reader."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.fleet.core.policy.faults import PolicyError
from edgewright.fleet.core.policy.selector import MAX_COMPARISONS, MAX_DEPTH, MAX_QUERY_CHARS, MAX_VALUES, parse
from edgewright.fleet.core.rows import Device


def device(**told: Any) -> Device:
    return Device(
        **{
            "id": "dev-1",
            "target": "jetson",
            "last_seen_s": 0.0,
            "version": "1",
            "bundle": "sha256:1",
            "idle": True,
            "reported_s": 0.0,
            "site": "lyon",
            "time_zone": "Europe/Paris",
            "labels": {"line": "3", "a.b-c": "x"},
            "software": "0.4",
            "security_epoch": 2,
            **told,
        }
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  \n ",
        'board == "jetson"',
        "board == 'jetson'",
        'board != "rpi" and site in ("lyon", "graz") and labels.line == "3" and version != "2" and not id like "lab-*"',
        'site not in ("graz")',
        'id like "dev-?"',
        'id not like "dev-??"',
        'id like "*"',
        'zone like "Europe/*" and software == "0.4" and bundle == "sha256:1"',
        "epoch == 2 and epoch != 3 and epoch < 3 and epoch <= 2 and epoch > 1 and epoch >= 2 and epoch in (1, 2)",
        "epoch not in (3)",
        'labels.a.b-c == "x"',
        'labels.none == ""',
        'not (site == "graz" or board == "rpi")',
        'not not board == "jetson"',
        # `and` before `or`: with the other order both would be false
        'board == "jetson" or site == "graz" and version == "9"',
        'version == "9" and site == "graz" or board == "jetson"',
    ],
)
def test_a_query_that_fits(text: str) -> None:
    assert parse(text).matches(device())


@pytest.mark.parametrize(
    "text",
    [
        'board == "JETSON"',
        'board == "jet"',
        'id like "ev-1"',
        'id like "dev"',
        '(board == "jetson" or site == "graz") and version == "9"',
        'not board == "jetson" and not site == "lyon"',
        'labels.line == "4"',
        'labels.none != ""',
        "epoch > 2",
    ],
)
def test_a_query_that_does_not_fit(text: str) -> None:
    assert not parse(text).matches(device())


def test_what_a_device_did_not_say_is_the_empty_text() -> None:
    new = device(version=None, bundle=None, site="", labels={})
    assert parse('version == "" and bundle == "" and site == "" and labels.line == ""').matches(new)


def test_quotes_and_brackets_in_values_mean_themselves() -> None:
    assert parse(r'site == "a\"b\\c"').matches(device(site='a"b\\c'))
    assert parse('site == "it\'s"').matches(device(site="it's"))
    assert parse('site like "[a]*"').matches(device(site="[a]b"))
    assert not parse('site like "[a]*"').matches(device(site="ab"))
    assert parse('site like "a*"').matches(device(site="a\nb"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('bord == "x"', ["no field 'bord'", "did you mean 'board'?", "character 1", "    ^"]),
        ('colour == "x"', ["no field 'colour'", "labels.NAME"]),
        ('labels. == "x"', ["no field 'labels.'"]),
        ('board = "x"', ["`==`", "got '='", "character 7", "\n          ^"]),
        ("board == x", ['a text in quotes ("x")', "got 'x'"]),
        ("board == 3", ["a text in quotes"]),
        ('epoch == "3"', ["expected a number"]),
        ('epoch like "3"', ["`<`", "got 'like'"]),
        ('site < "b"', ["texts have no order"]),
        ('board == "x" && site == "y"', ["got '&&'", "written `and`"]),
        ('board == "x" AND site == "y"', ["got 'AND'", "written `and`"]),
        ('board == "x" site == "y"', ["`and`, `or` or the end", "got 'site'"]),
        ('(board == "x"', ["expected ')'", "got the end"]),
        ('board == "x")', ["got ')'"]),
        ('board == "x', ["a text that does not end"]),
        ("board in ()", ["got ')'"]),
        ('board in ("a",)', ["a text in quotes"]),
        ('board not == "a"', ["`not in`"]),
        ("not", ["expected a field"]),
        ("§", ["got '§'", "character 1"]),
        ("epoch == 1a", ["got"]),
        ("epoch == " + "9" * 40, ["got"]),
        ("epoch == ²", ["got '²'"]),
        ("(" * 40 + 'board == "x"' + ")" * 40, [f"more than {MAX_DEPTH} levels"]),
        ("not " * 40 + 'board == "x"', [f"more than {MAX_DEPTH} levels"]),
        (" or ".join(["epoch == 1"] * (MAX_COMPARISONS + 1)), [f"more than {MAX_COMPARISONS} comparisons", "in (…)"]),
        (f"epoch in ({','.join(['1'] * (MAX_VALUES + 1))})", [f"more than {MAX_VALUES} values"]),
        ("x" * (MAX_QUERY_CHARS + 1), [f"limit is {MAX_QUERY_CHARS}"]),
    ],
)
def test_what_is_no_query_is_refused_with_its_place(text: str, words: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    for word in words:
        assert word in str(caught.value)


def test_a_mistake_far_on_is_shown_alone() -> None:
    text = 'board == "x" and\n\t' * 40 + "boo" + ' or board == "x"' * 40
    with pytest.raises(PolicyError) as caught:
        parse(text)
    told, line, caret = str(caught.value).split("\n")
    assert "no field 'boo'" in told
    assert len(line) < 90
    assert line[caret.index("^") :].startswith("boo")


@given(st.text(max_size=60) | st.text(alphabet="()\"'=!<>inotlkeadr, \\b*?", max_size=80))
def test_any_text_is_a_query_or_one_clear_error(text: str) -> None:
    try:
        query = parse(text)
    except PolicyError:
        return
    assert query.matches(device()) in {True, False}


FIELD = st.sampled_from(["id", "board", "site", "version", "labels.line"])
TEXT = st.sampled_from(["", "a", "b", "jetson", "3"])
COMPARISON = st.builds(
    lambda field, sign, text: (f'{field} {sign} "{text}"', (field, sign, text)),
    FIELD,
    st.sampled_from(["==", "!="]),
    TEXT,
)
TREE = st.recursive(
    COMPARISON,
    lambda inner: (
        st.builds(lambda one: (f"not ({one[0]})", ("not", one[1])), inner)
        | st.builds(lambda one, two: (f"({one[0]}) and ({two[0]})", ("and", one[1], two[1])), inner, inner)
        | st.builds(lambda one, two: (f"({one[0]}) or ({two[0]})", ("or", one[1], two[1])), inner, inner)
    ),
    max_leaves=10,
)
DEVICE = st.builds(
    lambda name, board, site, version, labels: device(id=name, target=board, site=site, version=version, labels=labels),
    TEXT,
    TEXT,
    TEXT,
    st.none() | TEXT,
    st.just({}) | st.builds(lambda line: {"line": line}, TEXT),
)


def truth(tree: Any, one: Device) -> bool:
    """Say what a tree of comparisons means, in the plainest way."""
    if tree[0] == "not":
        return not truth(tree[1], one)
    if tree[0] == "and":
        return truth(tree[1], one) and truth(tree[2], one)
    if tree[0] == "or":
        return truth(tree[1], one) or truth(tree[2], one)
    field, sign, text = tree
    told = {
        "id": one.id,
        "board": one.target,
        "site": one.site,
        "version": one.version or "",
        "labels.line": one.labels.get("line", ""),
    }[field]
    return (told == text) is (sign == "==")


@given(TREE, DEVICE)
def test_a_query_means_what_its_tree_means(pair: tuple[str, Any], one: Device) -> None:
    text, tree = pair
    assert parse(text).matches(one) is truth(tree, one)


def test_a_hostile_pattern_takes_no_time() -> None:
    query = parse('id like "' + "*a" * 200 + '*b"')
    started = time.process_time()
    assert not query.matches(device(id="a" * 5000))
    assert time.process_time() - started < 1


def test_the_same_text_is_read_once() -> None:
    assert parse('board == "x"') is parse('board == "x"')


def test_a_query_over_a_hundred_thousand_devices_is_quick() -> None:
    query = parse(
        'board == "jetson" and site in ("lyon", "graz") and labels.line == "3" and version != "2" and not id like "l-*"'
    )
    fleet = [device()] * 100_000
    started = time.process_time()
    assert sum(map(query.matches, fleet)) == len(fleet)
    assert time.process_time() - started < 1, "about 0.1 s"
