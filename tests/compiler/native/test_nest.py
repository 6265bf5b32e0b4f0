"""Loop nests as data: indices that simplify themselves, tiles that cover an extent once."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from edgewright.compiler.lower.native.nest import Affine, Node, loop, number, pieces, render, tiled, variable

VALUES = {"i": 3, "j": -2, "k": 7}
affines = st.builds(
    lambda terms, constant: sum((variable(name) * factor for name, factor in terms), number(constant)),
    st.lists(st.tuples(st.sampled_from(sorted(VALUES)), st.integers(-9, 9)), max_size=4),
    st.integers(-50, 50),
)


def value(index: Affine) -> int:
    return int(eval(str(index), {}, VALUES))  # noqa: S307 - our own text of sums and products


@given(affines, affines, st.integers(-5, 5))
def test_affine_text_means_what_was_added_and_multiplied(one: Affine, other: Affine, factor: int) -> None:
    assert value(one + other * factor) == value(one) + value(other) * factor
    assert value(one - other) == value(one) - value(other)


def test_what_cancels_is_not_written() -> None:
    assert str(variable("i") * 3 + 4 - variable("i") * 3) == "4"
    assert str(variable("i") - 2) == "i - 2"


@given(st.integers(1, 60), st.integers(1, 20))
def test_tiles_cover_an_extent_once(extent: int, tile: int) -> None:
    covered: list[int] = []

    def body(start: Affine, size: int) -> Iterable[Node]:
        loops = extent // tile if start.terms else 1
        for count in range(loops):
            first = start.constant + sum(factor for _, factor in start.terms) * count
            covered.extend(range(first, first + size))
        return [f"{start} {size}"]

    tiled("t", extent, tile, body)
    assert sorted(covered) == list(range(extent))


@given(st.integers(1, 100), st.sampled_from([(16, 8, 4), (8, 4), (4,)]))
def test_pieces_are_whole_vectors_but_the_last(extent: int, widths: tuple[int, ...]) -> None:
    found = pieces(extent, widths)
    assert [start for start, _ in found] == [sum(size for _, size in found[:index]) for index in range(len(found))]
    assert sum(size for _, size in found) == extent
    assert all(size in widths for _, size in found[:-1])


def test_a_loop_of_one_turn_is_none() -> None:
    assert "for" not in render(loop("i", 1, lambda i: [f"x[{i}];"]))
    assert render(loop("i", 3, lambda i: [f"x[{i}];"])).count("for") == 1
    assert render(loop("i", 3, lambda i: [f"x[{i}];"], unroll=True)).count("x[") == 3
