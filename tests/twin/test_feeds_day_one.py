"""Day-I messages: real frames byte for byte, a bit reader that agrees with the general decoder, and what arrives."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks import day_one
from networks import day_one_kernels as kernels
from networks.batches import VEHICLE_KINDS, ControlNotice
from networks.coordinates import from_wgs84
from networks.errors import InputError, MessageError
from networks.messages import Frame
from signals.plan import LampStep, SignalPlan
from tests.twin import placed_town as town
from twin.feeds.bsm import BsmAdapter, read_own
from twin.feeds.rsi import RsiAdapter
from twin.feeds.rsm import RsmAdapter, absolute_position, read_participants
from twin.feeds.spat import SpatAdapter, SpatReport, read_by_decoder, read_intersections
from twin.inbox import Inbox
from twin.map_reading import numbering_of_maps
from twin.numbering import own_numbering
from twin.privacy import Pseudonyms
from twin.road_messages import map_value, rsi_value, spat_value

NETWORK = town.placed_crossroads()
NUMBERING = own_numbering(NETWORK, region=7)
T0_S = town.T0_S
CLOSING = 900


def fresh() -> Inbox:
    names = Pseudonyms(b"test")
    formats = (
        RsmAdapter(NETWORK),
        BsmAdapter(NETWORK, names),
        SpatAdapter(NETWORK, NUMBERING),
        RsiAdapter(NETWORK, NUMBERING, closing=(CLOSING,)),
    )
    return Inbox(NETWORK, (), pseudonyms=names, formats=formats)


def offer(inbox: Inbox, *frames: Frame) -> list[bool]:
    return [inbox.offer(frame, frame.received_at_s) for frame in frames]


# Real frames


@pytest.fixture(scope="module")
def real_frames(shared_data: Path) -> list[dict[str, Any]]:
    file = shared_data / "feeds" / "v2x_cn" / "frames.json"
    if not file.is_file():
        pytest.skip("needs the recorded frames in ../shared/data/feeds/v2x_cn")
    frames: list[dict[str, Any]] = json.loads(file.read_text())
    return frames


def in_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple):
        first, second = value
        return {"bits": first.hex(), "n": second} if isinstance(first, bytes) else {first: in_json(second)}
    if isinstance(value, dict):
        return {key: in_json(inner) for key, inner in value.items()}
    return [in_json(inner) for inner in value] if isinstance(value, list) else value


def test_frames_of_real_units_read_as_known_and_come_back_byte_for_byte(real_frames: list[dict[str, Any]]) -> None:
    assert {frame["kind"] for frame in real_frames} == set(day_one.CHOICES)
    for real in real_frames:
        payload, kind = bytes.fromhex(real["hex"]), real["kind"]
        envelope = day_one.unpack_envelope(kind, payload)
        assert envelope.unit == real["rsu_id"]
        assert round(envelope.sent_at_s * 1e3) == real["timestamp_ms"]
        messages = []
        for message, known in zip(envelope.messages, real["messages"], strict=True):
            got, value = day_one.decode(message)
            assert got == kind
            assert in_json(value) == known["value"]
            messages.append(day_one.encode(kind, value))
        assert day_one.pack_envelope(envelope.unit, envelope.sent_at_s, kind, messages) == payload
        frames = day_one.frames_of(kind, payload, envelope.sent_at_s + 0.1)
        assert [f.counter for f in frames] == [m["value"]["msgCnt"] for m in real["messages"]]
        if kind == "BSM":
            assert [f.source for f in frames] == [m["value"]["id"] for m in real["messages"]]


def test_the_bit_readers_agree_with_real_frames(real_frames: list[dict[str, Any]]) -> None:
    for real in real_frames:
        for frame in day_one.frames_of(real["kind"], bytes.fromhex(real["hex"]), real["timestamp_ms"] / 1e3):
            if real["kind"] == "RSM":
                assert read_rows(frame.payload) == rows_by_decoder(frame.payload)
            if real["kind"] == "SPAT":
                assert lamps_by_reader(frame.payload) == lamps_by_decoder(frame.payload)
            if real["kind"] == "BSM":
                assert read_own(frame.payload, np.zeros(9, np.int64)).tolist() == own_by_decoder(frame.payload)


# The bit readers against the general decoder

offsets = st.one_of(
    *(
        st.builds(
            lambda lon, lat, number=number: (f"position-LL{number}", {"lon": lon, "lat": lat}),
            st.integers(-(1 << bits - 1), (1 << bits - 1) - 1),
            st.integers(-(1 << bits - 1), (1 << bits - 1) - 1),
        )
        for number, bits in enumerate((12, 14, 16, 18, 22, 24), start=1)
    ),
    st.builds(
        lambda lon, lat: ("position-LatLon", {"lon": lon, "lat": lat}),
        st.integers(-1_799_999_999, 1_800_000_001),
        st.integers(-900_000_000, 900_000_001),
    ),
)
heights = st.one_of(
    *(st.builds(lambda v, n=n: (f"offset{n}", v), st.integers(-(1 << 5 + n), (1 << 5 + n) - 1)) for n in range(1, 7)),
    st.builds(lambda v: ("elevation", v), st.integers(-4096, 61_439)),
)
confidences = st.fixed_dictionaries(
    {},
    optional={
        "speedCfd": st.sampled_from(("unavailable", "prec0-01ms")),
        "headingCfd": st.sampled_from(("unavailable", "prec0-0125deg")),
        "steerCfd": st.sampled_from(("unavailable", "prec0-02deg")),
    },
)
accelerations = st.fixed_dictionaries(
    {
        "long": st.integers(-2000, 2001),
        "lat": st.integers(-2000, 2001),
        "vert": st.integers(-127, 127),
        "yaw": st.integers(-32_767, 32_767),
    }
)
sizes = st.fixed_dictionaries(
    {"width": st.integers(0, 1023), "length": st.integers(0, 4095)}, optional={"height": st.integers(0, 127)}
)
classes = st.fixed_dictionaries({"classification": st.integers(0, 255)}, optional={"fuelType": st.integers(0, 15)})
position_confidences = st.fixed_dictionaries(
    {"pos": st.sampled_from(("unavailable", "a1cm"))}, optional={"elevation": st.just("elev-000-01")}
)
participants = st.fixed_dictionaries(
    {
        "ptcType": st.sampled_from(("unknown", "motor", "non-motor", "pedestrian", "rsu")),
        "ptcId": st.integers(0, 65_535),
        "source": st.sampled_from(("unknown", "selfinfo", "integrated")),
        "secMark": st.integers(0, 65_535),
        "pos": st.fixed_dictionaries({"offsetLL": offsets}, optional={"offsetV": heights}),
        "posConfidence": position_confidences,
        "speed": st.integers(0, 8191),
        "heading": st.integers(0, 28_800),
        "size": sizes,
    },
    optional={
        "id": st.binary(min_size=8, max_size=8),
        "transmission": st.sampled_from(("neutral", "unavailable")),
        "angle": st.integers(-126, 127),
        "motionCfd": confidences,
        "accelSet": accelerations,
        "vehicleClass": classes,
    },
)
places = st.fixed_dictionaries(
    {"lat": st.integers(-900_000_000, 900_000_001), "long": st.integers(-1_799_999_999, 1_800_000_001)},
    optional={"elevation": st.integers(-4096, 61_439)},
)
roadside_messages = st.fixed_dictionaries(
    {
        "msgCnt": st.integers(0, 127),
        "id": st.binary(min_size=8, max_size=8),
        "refPos": places,
        "participants": st.lists(participants, min_size=1, max_size=16),
    }
)
own_messages = st.fixed_dictionaries(
    {
        "msgCnt": st.integers(0, 127),
        "id": st.binary(min_size=8, max_size=8),
        "secMark": st.integers(0, 65_535),
        "pos": places,
        "transmission": st.sampled_from(("neutral", "unavailable")),
        "speed": st.integers(0, 8191),
        "heading": st.integers(0, 28_800),
        "accelSet": accelerations,
        "brakes": st.fixed_dictionaries(
            {},
            optional={
                "brakePadel": st.sampled_from(("unavailable", "on")),
                "wheelBrakes": st.just((b"\x50", 5)),
                "traction": st.sampled_from(("off", "engaged")),
                "abs": st.just("on"),
                "scs": st.just("engaged"),
                "brakeBoost": st.sampled_from(("unavailable", "on")),
                "auxBrakes": st.just("reserved"),
            },
        ),
        "size": sizes,
        "vehicleClass": classes,
    },
    optional={
        "timeConfidence": st.sampled_from(("unavailable", "time-000-000-000-000-01")),
        "posAccuracy": st.just({"semiMajor": 255, "semiMinor": 0, "orientation": 65_535}),
        "posConfidence": position_confidences,
        "angle": st.integers(-126, 127),
        "motionCfd": confidences,
        "safetyExt": st.just({"lights": (b"\xa0\x00", 9)}),
        "emergencyExt": st.just({"sirenUse": "inUse"}),
    },
)
spoils = st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 7)), max_size=6)


def read_rows(payload: bytes) -> list[list[int]] | None:
    head, rows = np.zeros(4, np.int64), np.zeros((16, 11), np.int64)
    try:
        count = read_participants(payload, head, rows)
    except MessageError:
        return None
    return [head.tolist(), *rows[:count].tolist()]


def rows_by_decoder(payload: bytes) -> list[list[int]] | None:
    try:
        kind, value = day_one.decode(payload)
    except MessageError:
        return None
    if kind != "RSM":
        return None
    kinds = ("unknown", "motor", "non-motor", "pedestrian", "rsu")
    sources = ("unknown", "selfinfo", "v2x", "video", "microwaveRadar", "loop", "lidar", "integrated")
    reference, seen = value["refPos"], value["participants"]
    rows = [[value["msgCnt"], reference["lat"], reference["long"], sum("id" in one for one in seen)]]
    for one in seen:
        lon, lat = absolute_position(one["pos"], reference)
        rows.append(
            [
                kinds.index(one["ptcType"]) if one["ptcType"] in kinds else 0,
                one["ptcId"],
                sources.index(one["source"]) if one["source"] in sources else 0,
                one["secMark"],
                lat,
                lon,
                one["speed"],
                one["heading"],
                one["size"]["width"],
                one["size"]["length"],
                one.get("vehicleClass", {}).get("classification", -1),
            ]
        )
    return rows


def own_by_decoder(payload: bytes) -> list[int]:
    _, value = day_one.decode(payload)
    return [
        value["msgCnt"],
        value["secMark"],
        value["pos"]["lat"],
        value["pos"]["long"],
        value["speed"],
        value["heading"],
        value["size"]["width"],
        value["size"]["length"],
        value["vehicleClass"]["classification"],
    ]


def spoilt(payload: bytes, spoil: list[tuple[int, int]], keep: int) -> bytes:
    changed = bytearray(payload)
    for byte, bit in spoil:
        changed[byte % len(changed)] ^= 1 << bit
    return bytes(changed)[: keep % (len(changed) + 1)]


@settings(max_examples=150)
@given(roadside_messages)
def test_the_roadside_reader_agrees_with_the_general_decoder(value: dict[str, Any]) -> None:
    payload = day_one.encode("RSM", value)
    assert read_rows(payload) == rows_by_decoder(payload)


@settings(max_examples=200)
@given(roadside_messages, spoils, st.integers(0, 10_000) | st.just(-1))
def test_both_refuse_the_same_spoilt_roadside_messages(
    value: dict[str, Any], spoil: list[tuple[int, int]], keep: int
) -> None:
    payload = spoilt(day_one.encode("RSM", value), spoil, keep)
    assert read_rows(payload) == rows_by_decoder(payload)


@settings(max_examples=150)
@given(st.binary(max_size=400))
def test_both_refuse_the_same_garbage(payload: bytes) -> None:
    assert read_rows(payload) == rows_by_decoder(payload)


@settings(max_examples=150)
@given(own_messages)
def test_the_vehicle_reader_agrees_with_the_general_decoder(value: dict[str, Any]) -> None:
    payload = day_one.encode("BSM", value)
    assert read_own(payload, np.zeros(9, np.int64)).tolist() == own_by_decoder(payload)
    assert day_one.identity_of(payload) == value["id"].hex()


@settings(max_examples=200)
@given(own_messages, spoils, st.integers(0, 10_000))
def test_a_spoilt_vehicle_message_is_never_read_otherwise(
    value: dict[str, Any], spoil: list[tuple[int, int]], keep: int
) -> None:
    payload = spoilt(day_one.encode("BSM", value), spoil, keep)
    try:
        known = own_by_decoder(payload) if day_one.decode(payload)[0] == "BSM" else None
    except MessageError:
        known = None
    try:
        got = read_own(payload, np.zeros(9, np.int64)).tolist()
    except MessageError:
        got = None
    if known is not None:
        assert got == known


def test_a_message_of_a_later_release_is_read_by_the_general_decoder() -> None:
    """The extension mark of the message set, with one addition of one byte that we do not know."""
    payload = day_one.encode("RSM", town.rsm(town.participant(3, *town.middle())))
    bits = bin(int.from_bytes(payload, "big"))[2:].zfill(8 * len(payload))
    used = bits[:4] + "1" + bits[5:]
    for padding in range(8):
        extended = used[: len(used) - padding] + "0" + "000000" + "1" + "00000001" + "11111111"
        extended += "0" * (-len(extended) % 8)
        data = int(extended, 2).to_bytes(len(extended) // 8, "big")
        head, rows = np.zeros(4, np.int64), np.zeros((16, 11), np.int64)
        assert kernels.read_rsm(np.frombuffer(data, np.uint8), head, rows) == kernels.EXTENDED
        assert read_rows(data) == rows_by_decoder(data)


marks = st.integers(0, 36_001) | st.just(0)
counting = st.fixed_dictionaries(
    {"startTime": marks, "likelyEndTime": marks},
    optional={
        "minEndTime": marks,
        "maxEndTime": marks,
        "timeConfidence": st.integers(0, 200),
        "nextStartTime": marks,
        "nextDuration": marks,
    },
).map(lambda told: ("counting", told))
clocked = st.fixed_dictionaries(
    {"startUTCTime": marks, "likelyEndUTCTime": marks},
    optional={"maxEndUTCTime": marks, "timeConfidence": st.just(7), "nextEndUTCTime": marks},
).map(lambda told: ("utcTiming", told))
lights = st.fixed_dictionaries(
    {
        "light": st.sampled_from(
            ("unavailable", "dark", "red", "permissive-green", "protected-green", "flashing-yellow")
        )
    },
    optional={"timing": counting | clocked},
)
moments = {"moy": st.integers(0, 527_040), "timeStamp": st.integers(0, 65_535)}
crossings = st.fixed_dictionaries(
    {
        "intersectionId": st.fixed_dictionaries(
            {"id": st.integers(0, 65_535)}, optional={"region": st.integers(0, 65_535)}
        ),
        "status": st.just((b"\x04\x00", 16)),
        "phases": st.lists(
            st.fixed_dictionaries(
                {"id": st.integers(0, 255), "phaseStates": st.lists(lights, min_size=1, max_size=4)}
            ),
            min_size=1,
            max_size=5,
        ),
    },
    optional={**moments, "timeConfidence": st.just("time-000-001")},
)
lamp_messages = st.fixed_dictionaries(
    {
        "msgCnt": st.integers(0, 127),
        "intersections": st.lists(
            crossings,
            min_size=1,
            max_size=4,
            unique_by=lambda one: (one["intersectionId"].get("region"), one["intersectionId"]["id"]),
        ),
    },
    optional={**moments, "name": st.text("az AZ09", min_size=1, max_size=63)},
)


def lamps_by_reader(payload: bytes) -> list[SpatReport] | None:
    try:
        return read_intersections(payload, T0_S)
    except MessageError:
        return None


def lamps_by_decoder(payload: bytes) -> list[SpatReport] | None:
    try:
        return read_by_decoder(payload, T0_S)
    except MessageError:
        return None


@settings(max_examples=120)
@given(lamp_messages, spoils | st.just([]), st.integers(0, 10_000) | st.just(-1))
def test_the_lamp_reader_agrees_with_the_general_decoder(
    value: dict[str, Any], spoil: list[tuple[int, int]], keep: int
) -> None:
    whole = day_one.encode("SPAT", value)
    assert lamps_by_reader(whole) == lamps_by_decoder(whole)
    payload = spoilt(whole, spoil, keep)
    known = lamps_by_decoder(payload)
    if known is None or len(known) == len(day_one.decode(payload)[1]["intersections"]):
        assert lamps_by_reader(payload) == known


# Envelopes


@settings(max_examples=200)
@given(st.sampled_from(sorted(day_one.CHOICES)), st.binary(max_size=200))
def test_any_bytes_are_an_envelope_or_are_refused(kind: str, payload: bytes) -> None:
    try:
        envelope = day_one.unpack_envelope(kind, payload)
    except MessageError:
        return
    size = 16 + (kind == "BSM") + sum(2 + len(m) for m in envelope.messages)
    assert size == len(payload)


@pytest.mark.parametrize("topic", ["V2X.RSU.RSM.UP", "V2X.RSU.BSM.UP", "V2X.RSU.SPAT.UP"])
def test_topics_tell_the_kind(topic: str) -> None:
    assert day_one.up_topic(day_one.kind_of_topic(topic)) == topic


@pytest.mark.parametrize("topic", ["V2X.RSU.HB.UP", "V2X.RSU.RSM.unit1.DOWN", "", "V2X.RSU.RSM", "a.b.RSM.UP"])
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(MessageError, match="topic"):
        day_one.kind_of_topic(topic)


@pytest.mark.parametrize(
    ("unit", "kind", "messages"),
    [("too long a name", "RSM", [b"x"]), ("u", "RSM", []), ("u", "BSM", []), ("ü", "RSM", [b"x"])],
)
def test_what_no_envelope_holds_is_refused(unit: str, kind: str, messages: list[bytes]) -> None:
    with pytest.raises(InputError):
        day_one.pack_envelope(unit, T0_S, kind, messages)


# Times


@given(st.floats(1e9, 3e9), st.floats(-29.9, 29.9))
def test_a_second_of_the_minute_is_found_across_the_roll_over(at_s: float, apart_s: float) -> None:
    at_s = round(at_s, 3)
    found = day_one.nearest_second(round(at_s % 60.0 * 1e3) % 60_000, at_s + apart_s)
    assert found == pytest.approx(at_s, abs=1e-3)


def test_a_reserved_second_is_none() -> None:
    assert math.isnan(day_one.nearest_second(65_535, T0_S))


@pytest.mark.parametrize("apart_s", [-3600.0, -1.0, 0.0, 1.0, 3600.0])
def test_a_minute_of_the_year_is_found_across_new_year(apart_s: float) -> None:
    new_year_s = 1_767_225_600.0
    at_s = new_year_s - 30.0
    minute = 365 * 1440 - 1
    assert day_one.from_minute_of_year(minute, 30_000, at_s + apart_s) == at_s
    assert day_one.from_minute_of_year(0, 5_000, at_s + apart_s) == new_year_s + 5.0


# What arrives


def test_what_a_unit_sees_arrives_in_local_metres() -> None:
    inbox = fresh()
    x_m, y_m = town.middle()
    seen = town.rsm(
        town.participant(1, x_m - 50, y_m - 3),
        town.participant(2, x_m - 60, y_m - 3, T0_S - 0.2, vehicleClass={"classification": 54}),
        town.participant(3, x_m + 10, y_m + 10, ptcType="pedestrian", heading=0),
        town.participant(4, x_m, y_m, ptcType="rsu"),
    )
    assert offer(inbox, *town.sent("RSM", seen)) == [True]
    tracks = inbox.take(T0_S + 1).tracks
    assert tracks.object_id.tolist() == [2, 1, 3]
    assert tracks.measured_at_s.tolist() == pytest.approx([T0_S - 0.2, T0_S, T0_S])
    assert tracks.x_m.tolist() == pytest.approx([x_m - 60, x_m - 50, x_m + 10], abs=0.02)
    assert tracks.y_m.tolist() == pytest.approx([y_m - 3, y_m - 3, y_m + 10], abs=0.02)
    assert tracks.speed_mps.tolist() == [10.0] * 3
    assert [VEHICLE_KINDS[k] for k in tracks.kind] == ["bus", "car", "pedestrian"]
    west, east = (
        np.array(from_wgs84(NETWORK, lon * 1e-7, lat * 1e-7))
        for lon, lat in ((at + step, lat) for (at, lat) in [town.degrees(x_m, y_m)] for step in (0, 10_000))
    )
    eastward = math.atan2(*(east - west)[::-1])
    assert abs(eastward) > 0.005, "the grid is turned here, half a degree beside the middle of its zone"
    assert tracks.heading_rad.tolist() == pytest.approx([eastward, eastward, math.pi / 2 + eastward], abs=1e-4)
    assert tracks.unit.tolist() == [0, 0, 0]


def test_participants_that_lack_something_are_named_and_the_others_kept() -> None:
    inbox = fresh()
    x_m, y_m = town.middle()
    nowhere = {"offsetLL": ("position-LatLon", {"lon": 1_800_000_001, "lat": 900_000_001})}
    far = {"offsetLL": ("position-LL6", {"lon": 800_000, "lat": 0})}
    seen = town.rsm(
        town.participant(1, x_m, y_m),
        town.participant(2, x_m, y_m, speed=8191),
        town.participant(3, x_m, y_m, heading=28_800),
        town.participant(4, x_m, y_m, secMark=65_535),
        town.participant(5, x_m, y_m, pos=nowhere),
        town.participant(6, x_m, y_m, pos=far),
    )
    assert offer(inbox, *town.sent("RSM", seen)) == [True]
    assert inbox.take(T0_S + 1).tracks.object_id.tolist() == [1]
    details = " ".join(refused.detail for refused in inbox.quarantine.newest())
    for field in ("1.speed", "2.heading", "3.secMark", "4.pos"):
        assert f"participants.{field}" in details
    assert "outside the network" in details
    tally = inbox.tallies["rsm"]
    assert (tally.rows_offered, tally.rows_accepted, tally.rows_refused) == (6, 1, 5)


def test_a_unit_that_stands_at_none_of_our_signals_is_refused() -> None:
    inbox = fresh()
    value = town.rsm(town.participant(1, *town.middle()))
    value["refPos"] = {"lat": 310_000_000, "long": 1_210_000_000}
    assert offer(inbox, *town.sent("RSM", value)) == [False]
    assert "refPos" in inbox.quarantine.newest()[0].detail


def test_a_vehicle_heard_by_two_units_counts_once_under_a_pseudonym() -> None:
    inbox = fresh()
    x_m, y_m = town.middle()
    own = town.bsm(x_m - 50, y_m - 3)
    frames = town.sent("BSM", own, unit="unit0001") + town.sent("BSM", own, unit="unit0002", delay_s=0.3)
    assert offer(inbox, *frames) == [True, False]
    probes = inbox.take(T0_S + 1).probes
    assert probes.x_m.tolist() == pytest.approx([x_m - 50], abs=0.02)
    assert VEHICLE_KINDS[probes.kind[0]] == "bus"
    assert probes.vehicle[0] == Pseudonyms(b"test").of("01" * 8, T0_S)
    assert inbox.quarantine.count_reasons() == {("bsm", "duplicate"): 1}
    assert ("01" * 8).encode() not in b"".join(r.payload + r.source.encode() for r in inbox.quarantine.newest())


def plan(now_s: float) -> SignalPlan:
    signal = NETWORK.signals[0]
    steps = tuple(LampStep(p.state, p.duration_s) for p in signal.programme.phases)
    return SignalPlan(0, signal.id, steps, now_s - 5, now_s + 900, repeats=True, offset_s=now_s)


def test_the_lamps_that_we_tell_are_those_that_come_back() -> None:
    for ago_s in (0.0, 7.0, 41.0):
        inbox = fresh()
        now_s = T0_S + ago_s
        value = spat_value(NETWORK, NUMBERING, [plan(T0_S)], now_s=now_s, count=200, sure_until_s=now_s + 10)
        assert offer(inbox, *town.sent("SPAT", value, at_s=now_s)) == [True]
        lamps = inbox.take(now_s + 1).signals
        assert lamps.state == (plan(T0_S).state_at(now_s),)
        assert lamps.measured_at_s.tolist() == pytest.approx([now_s], abs=1e-3)


def test_a_closure_told_by_its_link_comes_back_on_its_edge_and_lanes() -> None:
    edge = NETWORK.edge_index["wc"]
    first = int(NETWORK.edges.first_lane[edge])
    for lanes in ((), (first,), (first, first + 1)):
        inbox = fresh()
        notice = ControlNotice("works", edge, lanes, math.nan, T0_S, T0_S + 1200, T0_S)
        value = rsi_value(NETWORK, NUMBERING, "unit0001", [notice], event_type=CLOSING, now_s=T0_S, count=1)
        assert offer(inbox, *town.sent("RSI", value)) == [True]
        (back,) = inbox.take(T0_S + 1).notices
        assert (back.edge, back.lanes) == (edge, lanes)
        assert (back.begin_s, back.end_s) == (T0_S, T0_S + 1200)


def test_a_closure_told_by_a_line_alone_is_found_in_its_direction() -> None:
    inbox = fresh()
    edge = NETWORK.edge_index["ce"]
    notice = ControlNotice("works", edge, (), math.nan, T0_S, T0_S + 1200, T0_S)
    value = rsi_value(NETWORK, NUMBERING, "unit0001", [notice], event_type=CLOSING, now_s=T0_S, count=1)
    del value["rtes"][0]["referenceLinks"]
    assert offer(inbox, *town.sent("RSI", value)) == [True]
    assert [n.edge for n in inbox.take(T0_S + 1).notices] == [edge]


def test_a_recorded_message_names_nobody_and_reads_the_same() -> None:
    names = Pseudonyms(b"test")
    x_m, y_m = town.middle()
    (own,) = town.sent("BSM", town.bsm(x_m, y_m, identity=b"PLATE-01"))
    (seen,) = town.sent("RSM", town.rsm(town.participant(1, x_m, y_m, id=b"PLATE-01"), town.participant(2, x_m, y_m)))
    for frame in (own, seen):
        masked = names.mask(frame)
        assert b"PLATE-01" not in masked.payload
        assert b"PLATE-01".hex() not in masked.source
        before, after = fresh(), fresh()
        assert offer(before, frame) == offer(after, masked) == [True]
        assert before.take(T0_S + 1).tracks.x_m.tolist() == after.take(T0_S + 1).tracks.x_m.tolist()
    cut = own._replace(payload=own.payload[:20])
    assert b"withheld" in names.mask(cut).payload


def test_events_that_close_nothing_change_nothing() -> None:
    inbox = fresh()
    notice = ControlNotice("jam", 0, (), math.nan, T0_S, T0_S + 1200, T0_S)
    value = rsi_value(NETWORK, NUMBERING, "unit0001", [notice], event_type=CLOSING + 1, now_s=T0_S, count=1)
    assert offer(inbox, *town.sent("RSI", value)) == [True]
    assert inbox.take(T0_S + 1).notices == ()


def test_our_map_tells_every_lane_movement_and_phase() -> None:
    value = map_value(NETWORK, NUMBERING, 0, now_s=T0_S, count=3)
    kind, back = day_one.decode(day_one.encode("MAP", value))
    assert kind == "MAP"
    (node,) = back["nodes"]
    signal, moves = NETWORK.signals[0], NETWORK.movements
    assert node["id"] == {"region": 7, "id": 1}
    connections = [c for link in node["inLinks"] for lane in link["lanes"] for c in lane.get("connectsTo", ())]
    assert len(connections) == int((moves.signal == 0).sum())
    told = {c["phaseId"] for c in connections}
    assert told == {NUMBERING.signals[0].groups[k] for k in range(signal.link_count) if signal.link_movements[k]}
    for link in node["inLinks"]:
        assert [lane["laneID"] for lane in link["lanes"]] == list(range(1, 1 + len(link["lanes"])))
        for lane in link["lanes"]:
            lon, lat = absolute_position(lane["points"][-1]["posOffset"], node["refPos"])
            middle_lon, middle_lat = node["refPos"]["long"], node["refPos"]["lat"]
            assert math.hypot((lon - middle_lon) * 0.0085, (lat - middle_lat) * 0.0111) < 40, "ends at the stop line"


def test_our_own_map_read_back_gives_every_vehicle_link_its_phase() -> None:
    message = day_one.encode("MAP", map_value(NETWORK, NUMBERING, 0, now_s=T0_S, count=3))
    numbering, findings = numbering_of_maps(NETWORK, [message])
    assert findings == ()
    signal, own, back = NETWORK.signals[0], NUMBERING.signals[0], numbering.signals[0]
    assert (back.region, back.node) == (own.region, own.node)
    for link in range(signal.link_count):
        assert back.groups[link] == (own.groups[link] if signal.link_movements[link] else 0)


def test_links_that_a_map_does_not_tell_show_what_the_shipped_phases_say() -> None:
    message = day_one.encode("MAP", map_value(NETWORK, NUMBERING, 0, now_s=T0_S, count=3))
    numbering = numbering_of_maps(NETWORK, [message]).numbering
    signal = NETWORK.signals[0]
    assert 0 in numbering.signals[0].groups, "crossings have no phase in a MAP message"
    inbox = Inbox(NETWORK, (), formats=(SpatAdapter(NETWORK, numbering),))
    into_s = 0.0
    accepted = 0
    for k, phase in enumerate(signal.programme.phases):
        at_s = T0_S + into_s + 0.5
        value = spat_value(NETWORK, NUMBERING, [plan(T0_S)], now_s=at_s, count=k, sure_until_s=at_s)
        told = town.sent("SPAT", value, at_s=at_s)
        if offer(inbox, *told) == [True]:
            accepted += 1
            assert inbox.take(at_s + 1).signals.state == (phase.state,)
        else:
            assert "does not say what link" in inbox.quarantine.newest()[-1].detail
        into_s += phase.duration_s
    assert accepted >= len(signal.programme.phases) / 2, "the others leave a crossing open"


def test_maps_of_other_places_are_named() -> None:
    value = map_value(NETWORK, NUMBERING, 0, now_s=T0_S, count=3)
    value["nodes"][0]["refPos"] = {"lat": 310_000_000, "long": 1_210_000_000}
    numbering, (finding,) = numbering_of_maps(NETWORK, [day_one.encode("MAP", value)])
    assert "node 7/1" in finding
    assert set(numbering.signals[0].groups) == {0}


@settings(max_examples=150)
@given(
    st.sampled_from(("rsm", "bsm", "spat", "rsi")),
    st.sampled_from(("RSM", "BSM", "SPAT", "RSI", "MAP")),
    spoils,
    st.integers(0, 10_000) | st.just(-1),
)
def test_spoilt_messages_are_rows_or_a_named_refusal(
    feed: str, kind: str, spoil: list[tuple[int, int]], keep: int
) -> None:
    x_m, y_m = town.middle()
    notice = ControlNotice("works", 0, (), math.nan, T0_S, T0_S + 1200, T0_S)
    values = {
        "RSM": town.rsm(*(town.participant(n, x_m, y_m) for n in range(4))),
        "BSM": town.bsm(x_m, y_m),
        "SPAT": spat_value(NETWORK, NUMBERING, [plan(T0_S)], now_s=T0_S, count=1, sure_until_s=T0_S + 9),
        "RSI": rsi_value(NETWORK, NUMBERING, "unit0001", [notice], event_type=CLOSING, now_s=T0_S, count=1),
        "MAP": map_value(NETWORK, NUMBERING, 0, now_s=T0_S, count=3),
    }
    payload = spoilt(day_one.encode(kind, values[kind]), spoil, keep)
    inbox = fresh()
    inbox.offer(Frame(feed, "unit0001", 1, T0_S, T0_S + 0.1, payload), T0_S + 0.1)
    for refused in inbox.quarantine.newest():
        assert ": " in refused.detail
    tally = inbox.tallies[feed]
    assert tally.frames_offered == tally.frames_accepted + tally.frames_refused == 1
    inbox.take(T0_S + 2)
