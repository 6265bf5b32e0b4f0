"""What the API accepts. Strict (no coercion), bounded, unknown keys refused."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""A device's name: it becomes a part of MQTT topics and of bearer tokens."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Site = Annotated[str, StringConstraints(max_length=200)]
Zone = Annotated[str, StringConstraints(min_length=1, max_length=64)]
LabelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$")]
LabelValue = Annotated[str, StringConstraints(max_length=200)]
Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class EnrolRequest(BaseModel):
    """What a device sends once, with its one-time token. Keys that this version does not know are left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    token: Text
    name: Name | None = None
    target: Text
    target_digest: Digest
    software: Annotated[str, StringConstraints(max_length=200)] = ""
    emulated: bool = False
    isa: Annotated[list[Text], Field(max_length=256)] = []


class TokenRequest(_Strict):
    """A one-time enrolment token."""

    label: Annotated[str, StringConstraints(max_length=200)] = ""
    lifetime_s: Annotated[int, Field(ge=10, le=90 * 86400)] = 86400
    site: Site = ""
    time_zone: Zone = "UTC"
    labels: Annotated[dict[LabelName, LabelValue], Field(max_length=32)] = {}


class PlaceRequest(_Strict):
    """A change of where a device stands. What is left out stays; a label that is null is taken away."""

    site: Site | None = None
    time_zone: Zone | None = None
    labels: Annotated[dict[LabelName, LabelValue | None], Field(max_length=64)] = {}


class StopRequest(_Strict):
    """An emergency stop."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=500)]


class FloorRequest(_Strict):
    """A security floor."""

    security_epoch: Annotated[int, Field(ge=0, le=2**53)]


class ReleaseRequest(_Strict):
    """A release of uploaded bundles, one per target."""

    model: Text
    version: Text
    bundles: Annotated[list[Digest], Field(min_length=1, max_length=256)]


class RolloutRequest(_Strict):
    """A rollout of a release. What is left out of `policy` takes its default."""

    model: Text
    version: Text
    policy: dict[str, Any] = {}
