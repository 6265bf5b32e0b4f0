"""Routes that are switched at any moment while models fail, wait or answer: each job is answered exactly once."""

from __future__ import annotations

import contextlib
import random

import numpy as np
from numpy.typing import NDArray

from edgewright.runtime.routes import RoutesError
from edgewright.runtime.server.pipeline import Job, Outcome
from edgewright.runtime.server.refusal import Refusal
from tests.runtime.fuzzing import fuzz
from tests.runtime.server.routes.model_stand_ins import House, StandInModel, job

MODELS = ["a", "b", "c"]
NAMES = ["r", "s", "a"]


def place(chance: random.Random) -> str:
    return chance.choice(['"a"', '"b"', '"c"', '"r"', '"s"', '{ model = "a", version = "1" }', '"absent"'])


def route(chance: random.Random, name: str) -> str:
    first, second = place(chance), place(chance)
    hot = f"when_hot = {place(chance)}\n" if chance.random() < 0.2 else ""
    kinds = {
        "split": f"arms = [{{ model = {chance.choice(MODELS)!r} }}, {{ model = 'b', version = '1', weight = 3 }}]",
        "canary": f"primary = {first}\ncanary = {second}\nfraction = 0.5",
        "shadow": f"primary = {first}\nshadow = {second}\nfraction = 1.0\nmax_busy_share = 1.0",
        "cascade": f"stages = [{first}, {second}]\nthreshold = 0.9",
        "fallback": f"chain = [{first}, {second}]",
    }
    kind = chance.choice(list(kinds))
    return f'[routes.{name}]\nkind = "{kind}"\n{kinds[kind]}\n{hot}'


class Clients:
    """Jobs, and how often each was answered."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.models = [StandInModel(name, self.scores) for name in MODELS]
        self.house = House(self.models, draws=chance.random)
        self.jobs: list[Job] = []
        self.answers: list[int] = []

    def scores(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        share = np.float32(self.chance.random())
        return np.tile(np.array([share, 1 - share], np.float32), (len(x), 1))

    def ask(self) -> None:
        found = self.house.table.get(self.chance.choice(NAMES))
        if found is None:
            return
        number, asked = len(self.jobs), job(self.chance.randrange(1, 4), key=self.chance.choice(["", "k"]))
        self.jobs.append(asked)
        self.answers.append(0)

        def deliver(outcome: Outcome) -> None:
            self.answers[number] += 1
            assert (outcome.outputs is None) == (outcome.refusal is not None)
            if outcome.outputs is not None:
                assert outcome.outputs["y"].shape == (asked.rows, 2)

        try:
            found.submit(asked, deliver)
        except Refusal:
            deliver(Outcome(None, Refusal(503, "refused at once"), "", ""))

    def change(self) -> None:
        names = self.chance.sample(NAMES, self.chance.randrange(len(NAMES) + 1))
        with contextlib.suppress(RoutesError):
            self.house.table.apply("".join(route(self.chance, name) for name in names))

    def upset(self) -> None:
        model = self.chance.choice(self.models)
        model.holds = self.chance.random() < 0.5
        model.submit_status = self.chance.choice([200, 200, 200, 503, 404])
        model.answer_status = self.chance.choice([200, 200, 200, 500, 503, 504, 400])

    def release(self) -> None:
        held = self.chance.choice(self.models).held
        if held:
            held.pop(self.chance.randrange(len(held)))()

    def end(self) -> None:
        while any(model.held for model in self.models) or self.house.later:
            self.house.turn()
            for model in self.models:
                while model.held:
                    model.held.pop()()
        assert self.answers == [1] * len(self.jobs)
        self.house.table.statistics()


def check(chance: random.Random) -> None:
    clients = Clients(chance)
    for _ in range(chance.randrange(5, 120)):
        match chance.randrange(9):
            case 0:
                clients.change()
            case 1:
                clients.upset()
            case 2 | 3:
                clients.release()
            case 4 if clients.jobs:
                chance.choice(clients.jobs).cancel()
            case 5:
                clients.house.turn()
                clients.house.now_ns += chance.choice([0, 10**6, 10**10])
                clients.house.table.hot = chance.random() < 0.3
            case _:
                clients.ask()
    clients.end()


def test_routes_switched_at_any_moment_lose_no_job() -> None:
    fuzz(check)
