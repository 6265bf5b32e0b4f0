"""What a pass is: `(graph, options, target) -> (graph, evidence)`, with a contract that the base class checks.

- The caller's graph is never altered: the base hands the pass a copy.
- `requires` and `ensures` state what must hold before and after; a violation names the pass.
- Inputs and outputs stay as they are, unless the class says `changes_signature = True`.
- After the pass every value that a node reads has a producer that comes before it.
- Evidence is flat data: it goes into the bundle's lineage.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import msgspec
import onnx_ir as ir

from edgewright.bundle.manifest import PassRecord
from edgewright.targets.board import Board

from .graph import Graph, clone, signature

Scalar = str | int | float | bool | None
Evidence = dict[str, Scalar]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the options of a pass; its fields that are scalars are recorded in the lineage."""


class NoOptions(Options, frozen=True, kw_only=True):
    """For passes that have nothing to choose."""


OptionsT = TypeVar("OptionsT", bound=Options)


class PassContractError(Exception):
    """A pass did what it must not: our bug, shown as such."""


@dataclass(frozen=True)
class PassResult:
    """The new graph and what there is to tell about it."""

    graph: Graph
    record: PassRecord

    @property
    def evidence(self) -> Evidence:
        """What the pass reports to have done."""
        return self.record.evidence


class Pass(abc.ABC, Generic[OptionsT]):
    """One step on the graph. Subclasses write `apply`, and where it helps `requires` and `ensures`."""

    name: ClassVar[str]
    changes_signature: ClassVar[bool] = False

    @abc.abstractmethod
    def apply(self, graph: Graph, options: OptionsT, target: Board | None) -> tuple[Graph, Evidence]:
        """Does the work on a copy that belongs to the pass; returns it, or another graph, and the evidence."""

    def requires(self, graph: Graph, options: OptionsT) -> None:
        """Raises where the pass cannot work on this graph."""
        del graph, options

    def ensures(self, graph: Graph, options: OptionsT) -> None:
        """Raises where the result is not what the pass promises."""
        del graph, options

    def __call__(self, graph: Graph, options: OptionsT, target: Board | None = None) -> PassResult:
        """Runs the pass under its contract."""
        self.requires(graph, options)
        before = signature(graph)
        result, evidence = self.apply(clone(graph), options, target)
        if result is graph:
            raise PassContractError(f"pass {self.name} returned its caller's graph instead of its own copy")
        if not self.changes_signature and signature(result) != before:
            raise PassContractError(f"pass {self.name} changed the signature: {before} became {signature(result)}")
        _check_order(self.name, result)
        _check_evidence(self.name, evidence)
        self.ensures(result, options)
        return PassResult(result, PassRecord(name=self.name, options=recorded_options(options), evidence=evidence))


def recorded_options(options: Options) -> dict[str, Scalar]:
    """The scalar fields of some options, as they go into the lineage."""
    fields = msgspec.structs.asdict(options)
    return {key: value for key, value in fields.items() if value is None or isinstance(value, (str, int, float, bool))}


def _check_order(name: str, graph: Graph) -> None:
    known = {id(value) for value in (*graph.graph.inputs, *graph.graph.initializers.values())}
    for node in graph.graph:
        for value in node.inputs:
            if value is not None and id(value) not in known:
                raise PassContractError(f"pass {name}: node {node.name!r} reads {value.name!r} before it exists")
        known.update(id(value) for value in node.outputs)
    for value in graph.graph.outputs:
        if id(value) not in known:
            raise PassContractError(f"pass {name}: output {value.name!r} has no producer")


def _check_evidence(name: str, evidence: Evidence) -> None:
    for key, value in evidence.items():
        if not (value is None or isinstance(value, (str, int, float, bool))):
            raise PassContractError(f"pass {name}: evidence {key!r} is {type(value).__name__}, expected a scalar")


def count_nodes(graph: Graph) -> int:
    """Nodes of the main graph and of its subgraphs."""
    return sum(1 for _ in ir.traversal.RecursiveGraphIterator(graph.graph))
