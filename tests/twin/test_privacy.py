"""No identity gets past the border: not into batches, not into quarantine, not across hours."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from networks.messages import Frame, VehicleReport
from tests.twin import small_city as town
from twin.inbox import Inbox
from twin.privacy import Pseudonyms

PLATE = "BJ-A12345"
T0_S = town.T0_S - town.T0_S % 3600


@given(st.text(), st.floats(0, 1e11))
def test_pseudonyms_are_stable_within_the_hour_and_fit_a_signed_column(identity: str, at_s: float) -> None:
    pseudonyms = Pseudonyms(b"secret")
    first = pseudonyms.of(identity, at_s)
    assert 0 <= first < 2**63
    assert first == Pseudonyms(b"secret").of(identity, at_s)
    assert first != Pseudonyms(b"other").of(identity, at_s)


def test_the_key_changes_every_hour() -> None:
    pseudonyms = Pseudonyms(b"secret")
    now, later = pseudonyms.of(PLATE, T0_S), pseudonyms.of(PLATE, T0_S + 3600)
    assert now == pseudonyms.of(PLATE, T0_S + 3599)
    assert now != later
    assert pseudonyms.of(PLATE, T0_S) == now, "late messages of the hour before still match"


def test_without_the_secret_two_starts_give_different_pseudonyms() -> None:
    assert Pseudonyms().of(PLATE, T0_S) != Pseudonyms().of(PLATE, T0_S)


def test_a_masked_frame_decodes_to_the_same_report_but_the_name() -> None:
    frame = town.frame("v2x", town.vehicle(name=PLATE), source=PLATE)
    masked = Pseudonyms(b"secret").mask(frame)
    assert PLATE not in masked.source
    assert PLATE.encode() not in masked.payload
    said = VehicleReport.model_validate_json(masked.payload)
    assert said.model_copy(update={"vehicle": PLATE}) == town.vehicle(name=PLATE)
    assert masked.source == said.vehicle, "the device stays one device"


@given(
    st.sampled_from([*sorted(VehicleReport.model_fields), "plate", PLATE]),
    st.sampled_from([PLATE, [PLATE], {PLATE: 1}, {"owner": PLATE}]),
    st.sampled_from(["v2x", "v2y"]),
)
def test_a_spoilt_message_is_quarantined_without_the_name(field: str, value: object, feed: str) -> None:
    document = json.loads(town.vehicle(name=PLATE).model_dump_json())
    if field != "destination":
        document[field] = value
    document["x_m"] = [PLATE]
    inbox = Inbox(town.small_network(), town.DETECTORS)
    frame = Frame(feed, PLATE, 0, town.T0_S, town.T0_S, json.dumps(document).encode())
    assert not inbox.offer(frame, town.T0_S)
    assert PLATE not in repr(inbox.quarantine.newest())
    assert PLATE not in repr(inbox.quarantine.counts)


@given(st.binary(max_size=30), st.binary(max_size=30))
def test_unreadable_bytes_around_a_name_are_withheld(before: bytes, after: bytes) -> None:
    masked = Pseudonyms().mask(Frame("v2x", PLATE, 0, town.T0_S, town.T0_S, before + PLATE.encode() + after))
    assert PLATE.encode() not in masked.payload
    assert PLATE not in masked.source
