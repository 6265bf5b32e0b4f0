"""Requests known by the text around their numbers: they say what the long way says, and are refused as it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.server.http.messages import Request
from edgewright.runtime.server.limits import Limits
from edgewright.runtime.server.pipeline import Signature
from edgewright.runtime.server.refusal import Refusal
from edgewright.runtime.server.v2.forms import cut
from edgewright.runtime.server.v2.inference import read_request
from edgewright.runtime.server.v2.plans import Plans

LIMITS = Limits(json_bytes=4000)
SPECS = {
    "a": TensorSpec(name="a", datatype="FP32", shape=(-1, 2)),
    "b": TensorSpec(name="b", datatype="INT8", shape=(-1, 2, 1, 1)),
    "c": TensorSpec(name="c", datatype="BYTES", shape=(-1,)),
    "d": TensorSpec(name="d", datatype="FP64", shape=(1,)),
}


def signature(names: str) -> Signature:
    return Signature("m", "1", {name: SPECS[name] for name in names}, {"y": SPECS["a"]})


SIGNATURES = {names: signature(names) for names in ("a", "b", "c", "d", "ab", "abc")}


def result(text: bytes, of: Signature, plans: Plans | None) -> Any:
    incoming = Request(b"POST", b"/", {}, memoryview(text), True, 1, 0)
    try:
        got = read_request(incoming, of, LIMITS, plans)
    except Refusal as refusal:
        return refusal.status, refusal.message
    inputs = [(name, each.dtype, each.shape, each.tolist()) for name, each in got.inputs.items()]
    return inputs, got.rows, got.wanted, got.id, got.scheduling, got.classes


def known(text: bytes, of: Signature, plans: Plans) -> bool:
    return plans.read(text, of, LIMITS)[2] is not None


NUMBERS = st.sampled_from(["0", "1", "-1.5", "1e3", "2.0", "127", "300", "1e39", "1e999", "-0", "01", "null", "true"])
STRINGS = st.sampled_from(
    ['"x"', '"]"', '"[1, 2]"', '"\\"data\\": [1, 2]"', '"data"', '"d\\u0061ta"', '"\\\\"', '"\\ud800"']
)
LISTS = st.one_of(
    st.sampled_from(["[1, 2]", "[[1, 2]]", "[[1,2]]", "[[[[1]], [[2]]]]", "[[[[1]],[[2]]]]", '["x"]', "[-3, 0.5]"]),
    st.sampled_from(["[]", "[ 1, 2 ]", "[ [1, 2] ]", "[[1, 2], [3, 4]]", "[[1], [2]]", "[[[[1]], [[2]], [[3]]]]"]),
    st.sampled_from(
        ["[1, 2", "1, 2]", "[1], [2]", "[[1, 2]", "[1, 2]]", "[1 2]", '["]"]', '["],\\"data\\":[1"]', "{}"]
    ),
    st.lists(NUMBERS | STRINGS, max_size=4).map(lambda each: "[" + ", ".join(each) + "]"),
)
PARAMETERS = st.sampled_from(
    ['{"note": "\\"data\\": [1]"}', '{"data": 1}', '{"priority": 1}', '{"binary_data_size": 4}', "{}"]
)
SHAPES = {"a": "[1, 2]", "b": "[1, 2, 1, 1]", "c": "[1]", "d": "[1]"}
SPACES = st.sampled_from([(", ", ": "), (",", ":"), (" ,\n", " :\t")])
MORE = st.tuples(
    st.sampled_from(['"data"', '"parameters"', '"note"', '"shape"', '"id"', '"inputs"', '"d\\u0061ta"']),
    st.one_of(LISTS, PARAMETERS, STRINGS, st.sampled_from(['{"data": [1, 2]}', '[{"data": [1, 2]}]', "null"])),
)


@st.composite
def requests(draw: st.DrawFn, names: str, spaces: tuple[str, str], lists: dict[str, str]) -> str:
    """A request's text, mostly well formed; what it is but for its lists is decided by the draws."""
    comma, colon = spaces

    def spelled(members: list[tuple[str, str]]) -> str:
        if draw(st.integers(0, 4)) == 0:
            members.insert(draw(st.integers(0, len(members))), draw(MORE))
        return "{" + comma.join(key + colon + value for key, value in members) + "}"

    tensors = []
    for name in names:
        members = [
            ('"name"', f'"{name}"'),
            ('"shape"', SHAPES[name]),
            ('"datatype"', f'"{SPECS[name].datatype}"'),
            ('"data"', lists[name]),
        ]
        tensors.append(spelled(draw(st.permutations(members)) if draw(st.booleans()) else members))
    whole = [('"inputs"', "[" + comma.join(tensors) + "]")]
    if draw(st.booleans()):
        whole.insert(0, ('"id"', draw(st.sampled_from(['"one"', '""', '"\\n"', "null", '"[1]"']))))
    return spelled(whole)


def damaged(text: bytes, at: int, word: bytes, taken: int) -> bytes:
    at = at % (len(text) + 1)
    return text[:at] + word + text[at + taken :]


WORDS = st.sampled_from(
    [b"", b"[", b"]", b'"', b'"data":[1,2],', b"]]", b",", b" ", b"\xff", b"\\", b"1", b"{", b'"id":null,']
)
FIRST = {"a": "[1, 2]", "b": "[[[[1]], [[2]]]]", "c": '["x"]', "d": "[1]"}


@settings(max_examples=600)
@given(st.data())
def test_the_known_way_and_the_long_way_are_the_same(data: st.DataObject) -> None:
    names = data.draw(st.sampled_from(sorted(SIGNATURES)))
    of, plans = SIGNATURES[names], Plans()
    text = data.draw(requests(names, data.draw(SPACES), dict.fromkeys(names, "%s")))
    for turn in range(4):
        lists = [FIRST[name] if turn == 0 else data.draw(st.sampled_from([FIRST[name]]) | LISTS) for name in names]
        try:
            filled = (text % tuple(lists)).encode()
        except TypeError:  # an escaped percent sign, or a member given twice
            return
        if turn > 1 and data.draw(st.booleans()):
            filled = damaged(filled, data.draw(st.integers(0, 400)), data.draw(WORDS), data.draw(st.integers(0, 3)))
        assert result(filled, of, plans) == result(filled, of, None), filled


def simple(data: str, of: str = "a", before: str = "", behind: str = "") -> bytes:
    tensor = f'{{"name": "{of}", "shape": {SHAPES[of]}, "datatype": "{SPECS[of].datatype}", "data": {data}}}'
    return f'{{{before}"inputs": [{tensor}]{behind}}}'.encode()


@pytest.mark.parametrize(
    ("of", "first", "second"),
    [
        ("a", "[1, 2]", "[3.5, -4]"),
        ("a", "[1, 2]", "[[3, 4]]"),
        ("a", "[1,2]", "[ 3,\t4 ]"),
        ("b", "[1, 2]", "[[[[3]], [[4]]]]"),
        ("b", "[[[[1]],[[2]]]]", "[[[[3]],[[4]]]]"),
        ("c", '["x"]', '["a longer one"]'),
    ],
)
@pytest.mark.parametrize("behind", ["", ', "outputs": [{"name": "y"}], "parameters": {"priority": 1}'])
def test_other_numbers_in_the_same_text_are_known(of: str, first: str, second: str, behind: str) -> None:
    plans, signed = Plans(), SIGNATURES[of]
    texts = [simple(each, of, behind=behind) for each in (first, second, first)]
    assert [known(text, signed, plans) for text in texts] == [False, True, True]
    for text in texts:
        assert result(text, signed, plans) == result(text, signed, None)


def test_several_lists_are_known_in_their_order() -> None:
    plans, of = Plans(), SIGNATURES["ab"]
    tensors = [
        {"name": "b", "shape": [1, 2, 1, 1], "datatype": "INT8", "data": [1, 2]},
        {"data": [[0.5, 0.25]], "name": "a", "shape": [1, 2], "datatype": "FP32"},
    ]
    text = json.dumps({"inputs": tensors}).encode()
    assert not known(text, of, plans)
    assert known(text, of, plans)
    assert result(text, of, plans)[0] == [
        ("b", np.int8, (1, 2, 1, 1), [[[[1]], [[2]]]]),
        ("a", np.float32, (1, 2), [[0.5, 0.25]]),
    ]


def test_a_list_elsewhere_is_no_data_though_the_data_look_like_what_it_is_looked_for_with() -> None:
    plans, of = Plans(), SIGNATURES["d"]
    for number in (5, 5, 7):
        text = simple("[100000000000000007]", "d", before=f'"note": {{"data": [{number}]}}, ').replace(
            b'"data": [1000', b'"d\\u0061ta": [1000'
        )
        assert result(text, of, plans) == result(text, of, None)


def test_an_id_that_is_taken_back_is_none() -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for before in ("", '"id": "x", ', '"id": "x", '):
        text = simple("[1, 2]", before=before, behind=', "id": null')
        assert result(text, of, plans) == result(text, of, None)


@pytest.mark.parametrize("end", [b"", b"]", b"}}", b"} ", b"},", b"}\x00"])
def test_what_stands_behind_a_list_counts(end: bytes) -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for _ in range(3):
        assert result(simple("[1, 2]"), of, plans)[1] == 1
    text = simple("[1, 2]")[:-1] + end
    assert result(text, of, plans) == result(text, of, None)


def test_the_id_in_front_is_each_requests_own() -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for identity in (None, "one", "two", "", "one"):
        text = simple("[1, 2]", before="" if identity is None else f'"id": "{identity}", ')
        assert result(text, of, plans)[3] == identity
        assert known(text, of, plans)


HOSTILE = [
    simple("[1, 2]", before='"note": "\\"data\\": [3]", '),
    simple("[1, 2]", before='"note": {"data": [3]}, '),
    simple("[1, 2]", behind=', "data": [3, 4]'),
    simple('[1, 2], "data": [3, 4]'),
    simple('[1, 2], "data": null'),
    simple('[1, 2], "d\\u0061ta": [3, 4]'),
    simple('[1, 2], "name": "data"'),
    simple("[1, 2]", behind=', "inputs": []'),
    simple("[1, 2]", before='"id": "x", ', behind=', "id": null'),
    simple("[1, 2]", before='"id": "x", ', behind=', "id": "y"'),
    simple("[1, 2]", before='"id": "x", ', behind=', "\\u0069d": null'),
    simple("[100000000000000007, 2]"),
    simple("[1, 2]", before='"note": "[100000000000000007]", '),
    simple("[[1, 2]", behind="]"),
    simple("[1, 2]]}], ", behind='"id": "y"'),
    simple("[" * 400),
    b'"data"',
    b'{"data"[',
    b'"data"[[]',
    b'"data":[' * 300,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_texts_made_to_mislead_say_the_same_again_and_again(text: bytes) -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for each in (text, simple("[5, 6]"), text, text.replace(b"1", b"7"), text):
        assert result(each, of, plans) == result(each, of, None)


@pytest.mark.parametrize(
    "data", ["[1e39, 1]", "[1]", "[1, 2, 3]", "[1, [2]]", '["1", 2]', "[1, 2", "[[1], [2]]", "[[1, 2], []]"]
)
def test_a_known_text_around_what_is_wrong_is_refused_in_the_same_words(data: str) -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for _ in range(2):
        assert result(simple("[1, 2]"), of, plans)[1] == 1
    refused = result(simple(data), of, plans)
    assert refused == result(simple(data), of, None)
    assert refused[0] == 400


def test_a_known_text_has_no_right_to_be_longer_than_others() -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for _ in range(2):
        result(simple("[1, 2]"), of, plans)
    assert result(simple("[1," + " " * 4000 + "2]"), of, plans)[0] == 413


def test_forms_are_of_one_model() -> None:
    plans = Plans()
    other = Signature("m", "2", {"a": TensorSpec(name="a", datatype="FP32", shape=(-1, 3))}, {})
    for _ in range(3):
        assert result(simple("[1, 2]"), SIGNATURES["a"], plans)[1] == 1
        assert result(simple("[1, 2]"), other, plans)[0] == 400


def test_forms_are_few_whatever_clients_send() -> None:
    plans, of = Plans(), SIGNATURES["a"]
    texts = [simple("[1, 2]", before=f'"note": {number}, ') for number in range(600)]
    for text in texts:
        plans.read(text, of, LIMITS)
    assert known(texts[-1], of, plans)
    assert not known(texts[0], of, plans)


def test_what_is_long_around_its_lists_is_not_kept() -> None:
    plans, of = Plans(), SIGNATURES["a"]
    for length, expected in ((1000, True), (2100, False)):
        for before, behind in ((f'"note": "{"x" * length}", ', ""), ("", f', "note": "{"x" * length}"')):
            text = simple("[1, 2]", before=before, behind=behind)
            assert not known(text, of, plans)
            assert known(text, of, plans) == expected


def test_each_request_has_numbers_of_its_own() -> None:
    plans, text = Plans(), simple("[1, 2]")
    arrays = [
        read_request(Request(b"POST", b"/", {}, memoryview(text), True, 1, 0), SIGNATURES["a"], LIMITS, plans).inputs[
            "a"
        ]
        for _ in range(3)
    ]
    assert not any(np.shares_memory(arrays[0], other) for other in arrays[1:])


PIECES = st.sampled_from(
    [b'"data"', b"[", b"]", b"[[", b"]]", b":", b" ", b"1", b",", b'"', b"\\", b"{", b"}", b"x" * 700]
)


@given(st.lists(PIECES, max_size=30).map(b"".join))
@example(b'"data"[')
@example(b'"data"[[]')
def test_what_is_cut_is_the_text(text: bytes) -> None:
    parts = cut(text)
    if parts is None:
        return
    around, lists = parts
    assert len(around) == len(lists) + 1
    assert all(each.startswith(b"[") and each.endswith(b"]") for each in lists)
    assert b"".join(map(b"".join, zip(around, [*lists, b""], strict=True))) == text
