"""Vehicle identities end at the border: pseudonyms by a keyed hash whose key changes every hour.

Within an hour one vehicle keeps one pseudonym, so that it can be tracked and routed; across hours, or without the
secret, nobody can join its traces. The secret is random and lives in memory unless it is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, get_args

import numpy as np
from google.protobuf.message import DecodeError
from google.transit import gtfs_realtime_pb2
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from networks import day_one, day_one_kernels
from networks.errors import InputError, MessageError
from networks.messages import FEEDS, FORMATS, Frame, Kind, VehicleReport

IDENTIFYING_FEEDS = frozenset({"v2x", "bsm", "rsm", "gtfs_rt"})
"""Feeds whose source and payload name a vehicle or a person."""

_NUMBERS = frozenset({"measured_at", "x_m", "y_m", "speed_mps", "heading_rad"})
_WITHHELD = "withheld"


class Pseudonyms:
    """One secret's pseudonyms."""

    def __init__(self, secret: bytes | None = None, *, period_s: float = 3600.0) -> None:
        self._secret = os.urandom(32) if secret is None else blake2b(secret, digest_size=32).digest()
        self._period_s = period_s
        self._keyed = (-1, blake2b(key=self._secret, digest_size=8))

    def of(self, identity: str, at_s: float) -> int:
        """The pseudonym of an identity at a time, 0 <= p < 2**63."""
        hashed = self._keyed_hash(at_s)
        hashed.update(identity.encode("utf-8", "surrogatepass"))
        return int.from_bytes(hashed.digest(), "big") >> 1

    def name_of(self, identity: str, at_s: float) -> str:
        """The same as text."""
        return f"p{self.of(identity, at_s):016x}"

    def mask(self, frame: Frame) -> Frame:
        """The frame without identities; one of a feed that names nobody comes back unchanged.

        Of a feed that we do not know nothing is kept but its name and size.
        """
        if frame.feed not in FEEDS and frame.feed not in FORMATS:
            source = self.name_of(frame.source, frame.received_at_s)
            return frame._replace(source=source, payload=_withhold(frame.payload))
        if frame.feed not in IDENTIFYING_FEEDS:
            return frame
        if frame.feed in FORMATS:
            return self._mask_format(frame)
        try:
            said = VehicleReport.model_validate_json(frame.payload)
        except ValidationError:
            payload = self._mask_malformed(frame.payload, frame.received_at_s)
            return frame._replace(source=self.name_of(frame.source, frame.received_at_s), payload=payload)
        masked = said.model_copy(update={"vehicle": self.name_of(said.vehicle, said.measured_at)})
        return frame._replace(
            source=self.name_of(frame.source, said.measured_at), payload=masked.model_dump_json().encode()
        )

    def _mask_format(self, frame: Frame) -> Frame:
        """The same message with pseudonyms of the same length; only its size where it cannot be read."""
        at_s = frame.received_at_s
        try:
            payload = _MASKERS[frame.feed](frame.payload, lambda identity: self.of(identity, at_s))
        except (MessageError, InputError):
            payload = _withhold(frame.payload)
        source = self.name_of(frame.source, at_s) if frame.feed == "bsm" else frame.source
        return frame._replace(source=source, payload=payload)

    def _mask_malformed(self, payload: bytes, at_s: float) -> bytes:
        """What can be kept of a payload that no rule fits: known fields in known forms, no names of others."""
        try:
            document = from_json(payload)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            return _withhold(payload)
        kept: dict[str, Any] = {}
        for name, value in document.items():
            if name == "vehicle" and isinstance(value, str):
                kept[name] = self.name_of(value, at_s)
            elif _harmless(name, value):
                kept[name] = value
            else:
                kept[name if name in VehicleReport.model_fields else _WITHHELD] = [_WITHHELD]
        return to_json(kept, inf_nan_mode="constants")

    def _keyed_hash(self, at_s: float) -> blake2b:
        period = int(at_s // self._period_s)
        if period != self._keyed[0]:
            key = blake2b(period.to_bytes(16, "big", signed=True), key=self._secret, digest_size=32).digest()
            self._keyed = (period, blake2b(key=key, digest_size=8))
        return self._keyed[1].copy()


def _mask_bsm(payload: bytes, name: Callable[[str], int]) -> bytes:
    own = np.zeros(day_one_kernels.OWN_FIELDS, np.int64)
    if day_one_kernels.read_bsm(np.frombuffer(payload, np.uint8), own) != 1:
        raise MessageError("malformed", "message: not a BSM that we can read")
    return day_one.with_identity(payload, name(day_one.identity_of(payload)).to_bytes(8, "big"))


def _mask_rsm(payload: bytes, name: Callable[[str], int]) -> bytes:
    """A unit may hand on the identities of vehicles that it hears; most messages carry none and stay as they are."""
    head = np.zeros(day_one_kernels.HEAD_COLUMNS, np.int64)
    rows = np.zeros((day_one_kernels.MOST_PARTICIPANTS, day_one_kernels.COLUMNS), np.int64)
    count = day_one_kernels.read_rsm(np.frombuffer(payload, np.uint8), head, rows)
    if count < 0:
        raise MessageError("malformed", "message: not an RSM")
    if count > 0 and head[day_one_kernels.NAMED] == 0:
        return payload
    kind, value = day_one.decode(payload)
    for one in value.get("participants", ()):
        if "id" in one:
            one["id"] = name(one["id"].hex()).to_bytes(8, "big")
    return day_one.encode(kind, value)


def _mask_gtfs(payload: bytes, name: Callable[[str], int]) -> bytes:
    feed = gtfs_realtime_pb2.FeedMessage()
    try:
        feed.ParseFromString(payload)
    except DecodeError:
        raise MessageError("malformed", "feed: not GTFS-Realtime") from None
    for entity in feed.entity:
        vehicle = entity.vehicle.vehicle
        for field in ("id", "label", "license_plate"):
            if isinstance(getattr(vehicle, field), bytes):
                raise MessageError("malformed", f"vehicle.{field}: not UTF-8")
            if vehicle.HasField(field):
                setattr(vehicle, field, f"p{name(getattr(vehicle, field)):016x}")
    masked: bytes = feed.SerializePartialToString()
    return masked


_MASKERS: Mapping[str, Callable[[bytes, Callable[[str], int]], bytes]] = {
    "bsm": _mask_bsm,
    "rsm": _mask_rsm,
    "gtfs_rt": _mask_gtfs,
}


def _withhold(payload: bytes) -> bytes:
    return to_json(f"{_WITHHELD}: {len(payload)} bytes")


def _harmless(name: str, value: object) -> bool:
    if name in _NUMBERS:
        return value is None or isinstance(value, bool | int | float)
    if name == "kind":
        return value in get_args(Kind) if isinstance(value, str) else False
    return name == "destination" and (value is None or isinstance(value, str))
