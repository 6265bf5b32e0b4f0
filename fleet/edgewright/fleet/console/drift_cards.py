"""Drift as data for the page: a card for each bundle, a picture for each feature, the worst first. Pure."""

from __future__ import annotations

import msgspec

from ..core.drift.report import FeatureDrift
from .chip import Chip, Tone
from .pictures import Picture, draw
from .readings import Traffic

MOST_FEATURES = 8
VERDICT_TONE: dict[str, Tone] = {"stable": "good", "drifted": "bad", "inconclusive": "calm"}


class FeatureCard(msgspec.Struct, frozen=True, kw_only=True):
    """One feature: its picture and its verdict."""

    name: str
    role: str
    chip: Chip
    facts: str
    picture: Picture


class DriftCard(msgspec.Struct, frozen=True, kw_only=True):
    """One bundle's recent traffic."""

    title: str
    target: str
    chip: Chip
    message: str
    accuracy: str
    features: tuple[FeatureCard, ...]
    hidden: int


def drift_card(traffic: Traffic) -> DriftCard:
    report = traffic.report
    order = {"drifted": 0, "inconclusive": 1, "stable": 2}
    places = {(one.role, one.name): place for place, one in enumerate(traffic.reference.histograms)}
    ranked = sorted(report.features, key=lambda one: (order[one.verdict], one.role == "input", -one.psi))
    shown = ranked[:MOST_FEATURES]
    return DriftCard(
        title=f"{traffic.model} {traffic.version}",
        target=traffic.target,
        chip=Chip(text=report.verdict, tone=VERDICT_TONE[report.verdict]),
        message=report.message,
        accuracy=_accuracy(traffic),
        features=tuple(_feature(one, traffic, places[one.role, one.name]) for one in shown),
        hidden=len(ranked) - len(shown),
    )


def _accuracy(traffic: Traffic) -> str:
    report = traffic.report
    if report.estimated_accuracy is None or report.reference_accuracy is None:
        return ""
    return (
        f"{100 * report.estimated_accuracy:.1f} % estimated from confidence "
        f"({100 * report.reference_accuracy:.1f} % on calibration data)"
    )


def _feature(feature: FeatureDrift, traffic: Traffic, place: int) -> FeatureCard:
    ks = "" if feature.ks is None else f", KS {feature.ks:.2f}"
    return FeatureCard(
        name=feature.name,
        role=feature.role,
        chip=Chip(text=feature.verdict, tone=VERDICT_TONE[feature.verdict]),
        facts=f"PSI {feature.psi:.2f}{ks}",
        picture=draw(traffic.reference.histograms[place], traffic.live.histograms[place]),
    )
