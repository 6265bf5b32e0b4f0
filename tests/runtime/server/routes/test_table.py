"""Sets of routes replace each other without a gap; what does not fit is refused before anything changes."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from edgewright.bundle.manifest import TensorSpec
from edgewright.runtime.routes import Route, RoutesError, parse_routes, targets
from edgewright.runtime.server.pipeline import Outcome, SequenceStep
from tests.layering import ROOT
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job, spec, status


def one_way(model: str, extra: str = "") -> str:
    return f'[routes.r]\nkind = "split"\narms = [{{ model = "{model}" }}]\n{extra}'


def test_jobs_end_on_the_routes_they_began_with() -> None:
    first, second = StandInModel("a", holds=True), StandInModel("b")
    house = House([first, second])
    house.table.apply(one_way("a"))
    begun = house.ask("r", job())
    house.table.apply(one_way("b"))
    assert house.ask("r", job())[0].model == "b"
    house.table.apply("")
    assert house.table.get("r") is None
    first.held.pop()()
    assert begun[0].model == "a"


def test_what_is_wrong_changes_nothing() -> None:
    house = House([StandInModel("a"), StandInModel("b", inputs=(spec("x", (-1, 3)),))])
    house.table.apply(one_way("a"))
    kept = house.table.get("r")
    for text in ("[", '[routes.r]\nkind = "fallback"\nchain = ["a", "b"]'):
        with pytest.raises(RoutesError):
            house.table.apply(text)
        assert house.table.get("r") is kept


def test_a_route_whose_text_is_the_same_keeps_its_memory() -> None:
    house = House([StandInModel("a"), StandInModel("b")])
    outer = '[routes.outer]\nkind = "fallback"\nchain = ["r", "b"]\n'
    house.table.apply(one_way("a") + outer)
    house.ask("outer", job())
    kept = house.table.get("r"), house.table.get("outer")
    house.table.apply(outer + one_way("a") + '[routes.new]\nkind = "fallback"\nchain = ["a", "b"]\n')
    assert (house.table.get("r"), house.table.get("outer")) == kept
    assert house.counts("outer", "r")["jobs"] == 1
    house.table.apply(one_way("b") + outer)
    assert house.table.get("outer") is not kept[1], "the route that it leads to has changed"
    assert house.ask("outer", job())[0].model == "b"


def test_routes_lead_to_routes_and_answers_tell_the_way() -> None:
    house = House([StandInModel("a", answer_status=500), StandInModel("b")])
    text = one_way("a") + '[routes.s]\nkind = "fallback"\nchain = ["r", { model = "b", version = "1" }]'
    assert house.table.apply(text) == []
    assert house.ask("s", job())[0].notes == {"edgewright_arm": "b@1", "edgewright_model": "b"}
    house.models[0].answer_status = 200
    assert house.ask("s", job())[0].notes == {"edgewright_arm": "r/a", "edgewright_model": "a"}


def test_a_route_may_shadow_the_model_that_it_leads_to() -> None:
    house = House([StandInModel("r"), StandInModel("b")])
    house.table.apply('[routes.r]\nkind = "canary"\nprimary = "r"\ncanary = "b"')
    assert house.ask("r", job())[0].model == "r"


def test_models_may_come_later_and_are_told_of_until_then() -> None:
    house = House([])
    assert house.table.apply(one_way("a")) == ["a"]
    assert status(house.ask("r", job())) == 503
    house.models.append(StandInModel("a"))
    assert status(house.ask("r", job())) == 200


@pytest.mark.parametrize(
    ("tensors", "complaint"),
    [
        ({"inputs": (spec("z", (-1, 2)),)}, "'b' does not fit 'a': inputs are 'z', expected 'x'"),
        ({"inputs": (spec("x", (-1, 2), "FP16"),)}, "input 'x' is FP16, expected FP32"),
        ({"inputs": (spec("x", (1, 2)),)}, r"input 'x' has the shape \[1, 2\], expected \[-1, 2\]"),
        ({"outputs": (spec("y", (-1, -1)),)}, r"output 'y' has the shape \[-1, -1\], expected \[-1, 2\]"),
        ({"outputs": (spec("y", (-1, 2)), spec("z", (1,)))}, "outputs are 'y', 'z', expected 'y'"),
    ],
)
def test_models_that_do_not_fit_each_other_are_refused(
    tensors: dict[str, tuple[TensorSpec, ...]], complaint: str
) -> None:
    house = House([StandInModel("a"), StandInModel("b", **tensors)])  # type: ignore[arg-type]
    text = '[routes.r]\nkind = "split"\narms = [{ model = "a", weight = 0 }, { model = "b" }]'
    with pytest.raises(RoutesError, match=complaint):
        house.table.apply(text)
    late = house.models.pop()
    house.table.apply(text)
    house.models.append(late)
    assert status(house.ask("r", job())) == 503, "at the first use, where they come later"


def test_a_model_that_takes_more_shapes_fits() -> None:
    house = House([StandInModel("a", inputs=(spec("x", (1, 2)),)), StandInModel("b")])
    assert house.table.apply('[routes.r]\nkind = "fallback"\nchain = ["a", "b"]') == []
    assert house.route("r").signature.inputs["x"].shape == (1, 2)


def test_hot_routes_take_their_other_place_and_come_back() -> None:
    house = House([StandInModel("large"), StandInModel("small")])
    house.table.apply(one_way("large", 'when_hot = "small"\n'))
    house.table.hot = True
    assert house.ask("r", job())[0].notes == {"edgewright_arm": "small", "edgewright_model": "small"}
    assert house.ask("r", job(sequence=SequenceStep("s", start=False, end=False)))[0].model == "large"
    small = house.models.pop()
    assert house.ask("r", job())[0].model == "large"
    house.models.append(small)
    house.table.hot = False
    assert house.ask("r", job())[0].model == "large"
    assert (house.counts("r", "small")["jobs"], house.counts("r", "large")["jobs"]) == (1, 3)


def test_an_answer_that_somebody_keeps_is_not_written_in() -> None:
    kept = Outcome({}, None, "a", "1")
    house = House([StandInModel("a", cached=kept)])
    house.table.apply(one_way("a"))
    assert house.ask("r", job())[0].notes != {}
    assert kept.notes == {}


GUIDE = (ROOT / "docs/guides/routes.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_guide_has_an_example_of_every_kind() -> None:
    kinds = {type(route) for text in EXAMPLES for route in parse_routes(text).values()}
    assert kinds == set(get_args(Route))


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_guide_answer(text: str) -> None:
    (name, route), *_ = parse_routes(text).items()
    house = House([StandInModel(each.model, version=each.version or "1") for each in targets(route)])
    assert house.table.apply(text) == []
    for key in ("", "a", "b"):
        assert status(house.ask(name, job(key=key))) == 200
