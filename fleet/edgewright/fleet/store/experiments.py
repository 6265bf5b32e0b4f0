"""Experiments, their devices, and the windows that requests of an experiment were counted in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import msgspec
from sqlalchemy import Connection, insert, select, update

from ..core.experiment import Experiment, Memory
from ..core.rows import Assignment
from ..faults import NotFoundError
from .schema import experiment_units, experiments, series, windows
from .spans import Found, record_of


def add(connection: Connection, experiment: Experiment, units: Sequence[Assignment]) -> None:
    """Add an experiment and the devices that were drawn for it."""
    connection.execute(
        insert(experiments).values(
            experiment=experiment.id,
            model=experiment.plan.model,
            state=experiment.state,
            created_s=experiment.created_s,
            row=msgspec.json.encode(experiment),
            memory=msgspec.json.encode(Memory(learnt_until_s=experiment.created_s)),
        )
    )
    if units:
        connection.execute(
            insert(experiment_units),
            [{"experiment": experiment.id, "device": one.device, "row": msgspec.json.encode(one)} for one in units],
        )


def get(connection: Connection, experiment: str) -> tuple[Experiment, Memory]:
    """Return one experiment and what it has learnt.

    Raises:
        NotFoundError: there is none of that id.
    """
    row = connection.execute(select(experiments).where(experiments.c.experiment == experiment)).one_or_none()
    if row is None:
        raise NotFoundError(f"no experiment {experiment}; `edgewright fleet experiment status` lists those there are")
    return msgspec.json.decode(row.row, type=Experiment), msgspec.json.decode(row.memory, type=Memory)


def every(connection: Connection) -> list[tuple[Experiment, Memory]]:
    """Return all experiments, newest first."""
    query = select(experiments).order_by(experiments.c.created_s.desc(), experiments.c.experiment)
    return [
        (msgspec.json.decode(row.row, type=Experiment), msgspec.json.decode(row.memory, type=Memory))
        for row in connection.execute(query)
    ]


def running(connection: Connection, model: str | None = None) -> list[str]:
    """Return the ids of those that run (of one model)."""
    query = select(experiments.c.experiment).where(experiments.c.state == "running").order_by(experiments.c.created_s)
    if model is not None:
        query = query.where(experiments.c.model == model)
    return list(connection.execute(query).scalars())


def units_of(connection: Connection, experiment: str) -> list[Assignment]:
    """Return the devices of an experiment, in the order of their draw."""
    query = select(experiment_units.c.row).where(experiment_units.c.experiment == experiment)
    found = [msgspec.json.decode(row, type=Assignment) for row in connection.execute(query).scalars()]
    return sorted(found, key=lambda one: one.position)


def save(connection: Connection, experiment: Experiment) -> None:
    """Replace an experiment's row."""
    values = {"state": experiment.state, "row": msgspec.json.encode(experiment)}
    connection.execute(update(experiments).where(experiments.c.experiment == experiment.id).values(values))


def save_memory(connection: Connection, experiment: str, memory: Memory) -> None:
    """Replace what an experiment has learnt."""
    values = {"memory": msgspec.json.encode(memory)}
    connection.execute(update(experiments).where(experiments.c.experiment == experiment).values(values))


def windows_between(
    connection: Connection, bundles: Collection[str], *, since_s: float, until_s: float
) -> Iterator[Found]:
    """Yield the windows of these bundles that begin in a span of time, by their beginning and device."""
    query = (
        select(series, windows)
        .join(windows, windows.c.series == series.c.id)
        .where(
            windows.c.window_start_s >= since_s,
            windows.c.window_start_s < until_s,
            series.c.bundle.in_(sorted(bundles)),
        )
        .order_by(windows.c.window_start_s, series.c.device, series.c.bundle)
    )
    for row in connection.execute(query):
        yield Found(row.device, record_of(row, row), row.received_s)
