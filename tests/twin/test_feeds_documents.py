"""Feeds that come as documents: what honest ones deliver, and that nothing else ever comes of dishonest ones."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from google.transit import gtfs_realtime_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.batches import VEHICLE_KINDS
from networks.city import Detector
from networks.coordinates import to_wgs84, wgs84_to_bd09, wgs84_to_gcj02
from networks.errors import InputError
from networks.messages import FORMATS, Frame
from tests.twin import placed_town as town
from twin.feeds.base import AnyAdapter
from twin.feeds.cap import CapAdapter
from twin.feeds.cma import CmaAdapter
from twin.feeds.counts import CountFields
from twin.feeds.counts_csv import CountsCsvAdapter
from twin.feeds.counts_json import CountsJsonAdapter
from twin.feeds.datum import DATUMS, Locator
from twin.feeds.gat1049 import Gat1049Adapter
from twin.feeds.gtfs_rt import GtfsAdapter
from twin.feeds.metar import MetarAdapter, read_metar
from twin.feeds.v2x_seq import V2xSeqAdapter
from twin.feeds.wzdx import WzdxAdapter
from twin.inbox import Inbox
from twin.privacy import Pseudonyms

NETWORK = town.placed_crossroads()
T0_S = town.T0_S
ISO = datetime.fromtimestamp(T0_S, UTC).isoformat()
DETECTORS = tuple(Detector(f"loop{i}", i, 95.0, "count") for i in range(4))
X_M, Y_M = town.middle()


def fresh(*feeds: str, **count_fields: Any) -> Inbox:
    names = Pseudonyms(b"test")
    fields = CountFields(**count_fields)
    makers: dict[str, Callable[[], AnyAdapter]] = {
        "v2x_seq": lambda: V2xSeqAdapter(NETWORK, {"yizhuang#4": (NETWORK.signals[0].id, X_M, Y_M)}),
        "counts_csv": lambda: CountsCsvAdapter(DETECTORS, fields),
        "counts_json": lambda: CountsJsonAdapter(DETECTORS, fields),
        "wzdx": lambda: WzdxAdapter(NETWORK),
        "metar": MetarAdapter,
        "cma": CmaAdapter,
        "cap": lambda: CapAdapter(NETWORK),
        "gat1049": lambda: Gat1049Adapter(NETWORK, zone_h=0.0),
        "gtfs_rt": lambda: GtfsAdapter(NETWORK, names),
    }
    return Inbox(NETWORK, DETECTORS, pseudonyms=names, formats=[makers[feed]() for feed in feeds or makers])


def offer(inbox: Inbox, feed: str, payload: bytes | str, *, counter: int = 0, at_s: float = T0_S) -> bool:
    data = payload.encode() if isinstance(payload, str) else payload
    return inbox.offer(Frame(feed, "source", counter, at_s, at_s + 0.5, data), at_s + 0.5)


def details(inbox: Inbox) -> str:
    return "\n".join(refused.detail for refused in inbox.quarantine.newest())


# Honest documents

V2X_SEQ_COLUMNS = (
    *("city", "timestamp", "id", "type", "sub_type", "tag", "x", "y", "z", "length", "width", "height", "theta"),
    *("v_x", "v_y", "intersect_id", "vic_tag", "from_side", "car_side_id", "road_side_id"),
)


def v2x_seq(*rows: dict[str, Any]) -> bytes:
    text = io.StringIO()
    table = csv.DictWriter(text, V2X_SEQ_COLUMNS, restval="")
    table.writeheader()
    plain = {"city": "b", "timestamp": T0_S, "id": 7, "type": "VEHICLE", "sub_type": "VAN", "x": -50.0, "y": -3.0}
    plain |= {"theta": 0.1, "v_x": 3.0, "v_y": 4.0, "intersect_id": "yizhuang#4", "from_side": "cooperative"}
    table.writerows([plain | row for row in rows])
    return text.getvalue().encode()


def work_zone(**properties: Any) -> dict[str, Any]:
    x, y = np.array([X_M - 150.0, X_M - 20.0]), np.array([Y_M - 5.0, Y_M - 5.0])
    lon, lat = to_wgs84(NETWORK, x, y)
    told = {"core_details": {"event_type": "work-zone", "data_source_id": "1"}, "start_date": ISO}
    told |= {"end_date": datetime.fromtimestamp(T0_S + 7200, UTC).isoformat().replace("+00:00", "Z")}
    return {
        "id": "w1",
        "type": "Feature",
        "properties": told | properties,
        "geometry": {"type": "LineString", "coordinates": np.stack([lon, lat], axis=1).tolist()},
    }


def wzdx(*features: dict[str, Any]) -> str:
    return json.dumps({"type": "FeatureCollection", "feed_info": {}, "features": features})


def alert(kind: str = "Alert", area: str = "", status: str = "Actual", identifier: str = "a1") -> str:
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"><identifier>{identifier}</identifier><sender>m</sender>
<sent>{ISO}</sent><status>{status}</status><msgType>{kind}</msgType><scope>Public</scope>
<references>m,a1,{ISO}</references>
<info><category>Met</category><event>Heavy rain</event><urgency>Immediate</urgency><severity>Severe</severity>
<certainty>Observed</certainty><expires>{datetime.fromtimestamp(T0_S + 3600, UTC).isoformat()}</expires>
<area><areaDesc>District</areaDesc>{area}</area></info></alert>"""


def signal_state(lamps: str, cross: str | None = None) -> str:
    code = {"r": "211", "y": "121", "u": "221", "G": "112", "g": "112", "O": "111", "o": "131"}
    groups = "".join(
        f"<SignalGroupStatus><SignalGroupNo>{k + 1}</SignalGroupNo><LampStatus>{code[lamp]}</LampStatus>"
        "</SignalGroupStatus>"
        for k, lamp in enumerate(lamps)
    )
    sequence = datetime.fromtimestamp(T0_S, UTC).strftime("%Y%m%d%H%M%S")
    return (
        f"<Message><Version>2.0</Version><Type>PUSH</Type><Seq>{sequence}000001</Seq><Body>"
        '<Operation order="1" name="Notify"><CrossSignalGroupStatus>'
        f"<CrossID>{cross or NETWORK.signals[0].id}</CrossID><SignalGroupStatusList>{groups}</SignalGroupStatusList>"
        "</CrossSignalGroupStatus></Operation></Body></Message>"
    )


def buses(speed: float | None = 8.0, name: str = "bus-0815") -> bytes:
    feed = gtfs_realtime_pb2.FeedMessage()
    feed.header.gtfs_realtime_version = "2.0"
    feed.header.timestamp = int(T0_S)
    entity = feed.entity.add(id="e1")
    lon, lat = to_wgs84(NETWORK, X_M - 50.0, Y_M - 3.0)
    entity.vehicle.position.latitude, entity.vehicle.position.longitude = float(lat), float(lon)
    entity.vehicle.position.bearing = 90.0
    if speed is not None:
        entity.vehicle.position.speed = speed
    entity.vehicle.vehicle.id = name
    entity.vehicle.timestamp = int(T0_S)
    data: bytes = feed.SerializeToString()
    return data


def counts_csv(*rows: str) -> str:
    return "detector,time,count,occupancy,speed,interval_s\n" + "\n".join(rows)


HONEST: dict[str, bytes] = {
    "v2x_seq": v2x_seq({}, {"id": 8, "y": -6.0, "sub_type": "BUS"}),
    "counts_csv": counts_csv(f"loop0,{ISO},12,0.2,9.5,300", f"loop1,{ISO},3,,,300").encode(),
    "counts_json": json.dumps([{"detector": "loop2", "time": T0_S, "count": 5, "interval_s": 60}]).encode(),
    "wzdx": wzdx(work_zone(vehicle_impact="all-lanes-closed")).encode(),
    "metar": b"METAR ZBAA 012230Z 36004MPS 6000 -RA BR M01/M03 Q1021 NOSIG=",
    "cma": json.dumps(
        {"DS": [{"Station_Id_C": "54511", "Datetime": ISO[:19].replace("T", " "), "TEM": "3.5", "VIS": 999999}]}
    ).encode(),
    "cap": alert().encode(),
    "gat1049": signal_state("r" * NETWORK.signals[0].link_count).encode(),
    "gtfs_rt": buses(),
}


def test_cooperative_tracks_arrive_in_our_frame() -> None:
    inbox = fresh()
    assert offer(inbox, "v2x_seq", v2x_seq({}, {"id": 8, "y": -6.0, "sub_type": "BUS", "timestamp": T0_S - 0.1}))
    tracks = inbox.take(T0_S + 1).tracks
    assert tracks.object_id.tolist() == [8, 7]
    assert tracks.x_m.tolist() == pytest.approx([X_M - 50.0] * 2)
    assert tracks.speed_mps.tolist() == [5.0, 5.0]
    assert [VEHICLE_KINDS[k] for k in tracks.kind] == ["bus", "car"]


def test_rows_of_cooperative_tracks_are_refused_one_by_one() -> None:
    inbox = fresh()
    bad = [
        {"id": 1, "v_x": "fast"},
        {"id": 2, "intersect_id": "elsewhere"},
        {"id": 3, "sub_type": "UFO", "type": "?"},
    ]
    assert offer(inbox, "v2x_seq", v2x_seq(*bad, {"id": 4}))
    assert inbox.take(T0_S + 1).tracks.object_id.tolist() == [4]
    for part in ("rows.0.v_x", "rows.1.intersect_id", "rows.2.sub_type"):
        assert part in details(inbox)


def test_counts_arrive_under_the_names_and_units_of_their_source() -> None:
    inbox = fresh(
        detector="SITE",
        time="BEGIN",
        count="N",
        occupancy="OCC",
        speed="V",
        interval="",
        interval_s=300.0,
        time_is_begin=True,
        zone_h=8.0,
        occupancy_unit=0.01,
        speed_unit_mps=1 / 3.6,
        detectors={"A1": "loop3"},
    )
    begin = datetime.fromtimestamp(T0_S - 300.0 + 8 * 3600, UTC).strftime("%Y-%m-%d %H:%M:%S")
    assert offer(inbox, "counts_csv", f"SITE,BEGIN,N,OCC,V\nA1,{begin},30,25,36\nB9,{begin},1,1,1\n")
    counts = inbox.take(T0_S + 1).counts
    assert counts.detector.tolist() == [3]
    assert counts.count.tolist() == [30]
    assert counts.occupancy.tolist() == [0.25]
    assert counts.speed_mps.tolist() == pytest.approx([10.0])
    assert counts.measured_at_s.tolist() == [T0_S]
    assert "detector: not in this city" in details(inbox)


def test_counts_without_occupancy_are_for_long_intervals_only() -> None:
    inbox = fresh()
    assert offer(inbox, "counts_csv", counts_csv(f"loop0,{ISO},3,,,60", f"loop1,{ISO},1,,,1"))
    counts = inbox.take(T0_S + 1).counts
    assert counts.detector.tolist() == [0]
    assert np.isnan(counts.occupancy[0])
    assert "rows.1.occupancy" in details(inbox)


def test_a_time_without_a_zone_is_refused_where_none_is_declared() -> None:
    inbox = fresh()
    assert not offer(inbox, "counts_csv", counts_csv("loop0,2026-03-02 08:00:00,3,,,60"))
    assert "rows.0.time" in details(inbox)


def test_a_document_fetched_again_counts_once() -> None:
    for feed, payload in HONEST.items():
        inbox = fresh()
        assert offer(inbox, feed, payload), details(inbox)
        once = rows_of(inbox)
        assert once > 0
        assert not offer(inbox, feed, payload, counter=1) or feed == "wzdx"
        assert rows_of(inbox) == 0 or feed == "wzdx", "works hold as long as they are told"


def rows_of(inbox: Inbox, at_s: float = T0_S + 1) -> int:
    taken = inbox.take(at_s)
    return (
        len(taken.counts.detector)
        + len(taken.tracks.unit)
        + len(taken.probes.vehicle)
        + len(taken.signals.signal)
        + len(taken.notices)
        + len(taken.weather.rain_mm_h)
        + len(taken.warnings)
    )


def test_a_closed_street_closes_its_edge_and_not_the_other_direction() -> None:
    inbox = fresh()
    assert offer(inbox, "wzdx", wzdx(work_zone(vehicle_impact="all-lanes-closed")))
    (notice,) = inbox.take(T0_S + 1).notices
    assert NETWORK.edges.ids[notice.edge] == "wc"
    assert notice.lanes == ()
    assert (notice.begin_s, notice.end_s) == (T0_S, T0_S + 7200)


def test_closed_lanes_count_from_the_left_and_a_limit_is_in_mps() -> None:
    inbox = fresh()
    lanes = [{"order": 1, "type": "general", "status": "closed"}, {"order": 2, "type": "general", "status": "open"}]
    features = work_zone(lanes=lanes, vehicle_impact="some-lanes-closed"), work_zone(reduced_speed_limit_kph=36)
    assert offer(inbox, "wzdx", wzdx(features[0], features[1] | {"id": "w2"}))
    lane, limit = inbox.take(T0_S + 1).notices
    assert lane.lanes == (int(NETWORK.edges.first_lane[lane.edge + 1]) - 1,)
    assert limit.lanes == ()
    assert limit.speed_limit_mps == pytest.approx(10.0)


def test_works_elsewhere_are_named() -> None:
    feature = work_zone(vehicle_impact="all-lanes-closed")
    feature["geometry"]["coordinates"] = [[121.0, 31.0], [121.001, 31.0]]
    inbox = fresh()
    assert not offer(inbox, "wzdx", wzdx(feature))
    assert "'w1'" in details(inbox)


@pytest.mark.parametrize(
    ("text", "rain", "visibility", "temperature", "wind"),
    [
        ("METAR ZBAA 012230Z 36004MPS 6000 -RA BR M01/M03 Q1021 NOSIG", 1.0, 6000.0, -1.0, 4.0),
        ("SPECI EGLL 012220Z AUTO VRB02KT 9999 +SHRA OVC010 12/09 Q0999", 22.0, 10_000.0, 12.0, 1.028888),
        ("ZBNY 012200Z 00000MPS CAVOK 25/// Q1010", 0.0, 10_000.0, 25.0, 0.0),
        (
            "METAR KJFK 012251Z 31015G25KT 1 1/2SM RA BR 08/07 A2990 RMK AO2 P0010 T00830072",
            2.54,
            2414.0,
            8.0,
            7.71666,
        ),
        ("METAR ZSPD 012230Z /////MPS //// VCSH ///// Q////", 0.0, math.nan, math.nan, math.nan),
    ],
)
def test_airport_reports_read_as_meteorologists_do(
    text: str, rain: float, visibility: float, temperature: float, wind: float
) -> None:
    report = read_metar(text, T0_S)
    assert report[2:] == pytest.approx((rain, visibility, temperature, wind), abs=0.5, nan_ok=True)
    assert report.measured_at % 86_400 == int(text.split("Z ")[0][-4:-2]) * 3600 + int(text.split("Z ")[0][-2:]) * 60


@given(st.integers(0, 59), st.floats(0, 20 * 86_400))
def test_the_day_of_an_airport_report_is_the_latest_past_one(minute: int, ago_s: float) -> None:
    when = datetime.fromtimestamp(T0_S - ago_s, UTC).replace(minute=minute, second=0, microsecond=0)
    report = read_metar(f"ZBAA {when:%d%H%M}Z 36004MPS 9999 10/05 Q1021", T0_S)
    assert report.measured_at == when.timestamp()


def test_a_warning_counts_when_its_area_touches_the_city_and_ends_when_cancelled() -> None:
    lon, lat = to_wgs84(NETWORK, X_M, Y_M)
    lon, lat = float(lon), float(lat)
    here = " ".join(f"{lat + b},{lon + a}" for a, b in ((-1, -1), (1, -1), (1, 1), (-1, -1)))
    there = " ".join(f"{lat + b},{lon + a}" for a, b in ((5, 5), (6, 5), (6, 6), (5, 5)))
    for area, count in (
        (f"<polygon>{here}</polygon>", 1),
        (f"<polygon>{there}</polygon>", 0),
        (f"<circle>{lat},{lon + 0.1} 20</circle>", 1),
        (f"<circle>{lat},{lon + 5} 20</circle>", 0),
        ("", 1),
    ):
        inbox = fresh()
        assert offer(inbox, "cap", alert(area=area))
        warnings = inbox.take(T0_S + 1).warnings
        assert len(warnings) == count
        assert all(
            (w.id, w.event, w.severity, w.end_s) == ("a1", "Heavy rain", "Severe", T0_S + 3600) for w in warnings
        )
    assert offer(inbox, "cap", alert(kind="Cancel", identifier="a2"), counter=1)
    (ended,) = inbox.take(T0_S + 2).warnings
    assert (ended.id, ended.end_s) == ("a1", T0_S)
    assert offer(inbox, "cap", alert(status="Exercise", identifier="a3"), counter=2)
    assert inbox.take(T0_S + 3).warnings == ()


def test_signal_states_arrive_with_the_letters_of_the_shipped_stages() -> None:
    signal = NETWORK.signals[0]
    for phase in signal.programme.phases:
        inbox = fresh()
        assert offer(inbox, "gat1049", signal_state(phase.state)), details(inbox)
        (state,) = inbox.take(T0_S + 1).signals.state
        assert len(state) == len(phase.state)
        assert [lamp.upper() for lamp in state] == [lamp.upper() for lamp in phase.state]
        if "y" not in phase.state and "G" in phase.state:
            assert state == phase.state


def test_an_entity_bomb_is_refused() -> None:
    inbox = fresh()
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><alert>&c;</alert>'
    for feed in ("cap", "gat1049"):
        assert not offer(inbox, feed, bomb)
    assert details(inbox).count("document: ") == 2


def test_a_bus_arrives_under_a_pseudonym_and_without_motion_not_at_all() -> None:
    inbox = fresh()
    assert offer(inbox, "gtfs_rt", buses())
    probes = inbox.take(T0_S + 1).probes
    assert VEHICLE_KINDS[probes.kind[0]] == "bus"
    assert probes.x_m.tolist() == pytest.approx([X_M - 50.0], abs=1.0)
    assert not offer(inbox, "gtfs_rt", buses(speed=None), counter=1)
    assert "position.speed" in details(inbox)
    masked = Pseudonyms(b"test").mask(Frame("gtfs_rt", "s", 0, T0_S, T0_S, buses()))
    assert b"bus-0815" not in masked.payload
    assert fresh().offer(masked._replace(received_at_s=T0_S + 0.5), T0_S + 1)


def test_missing_quantities_are_missing_and_not_zero() -> None:
    inbox = fresh()
    assert offer(inbox, "cma", HONEST["cma"])
    weather = inbox.take(T0_S + 1).weather
    assert weather.temperature_c.tolist() == [3.5]
    assert np.isnan([weather.visibility_m[0], weather.rain_mm_h[0], weather.wind_mps[0]]).all()


# Datum


@pytest.mark.parametrize("datum", DATUMS)
def test_a_point_lands_on_the_same_place_from_every_datum(datum: str) -> None:
    lon, lat = to_wgs84(NETWORK, [X_M, X_M + 100.0], [Y_M, Y_M - 100.0])
    told = {"gcj02": wgs84_to_gcj02, "bd09": wgs84_to_bd09}.get(datum, lambda *point: point)(lon, lat)
    x_m, y_m = Locator(NETWORK, datum).place(*told)
    assert x_m == pytest.approx([X_M, X_M + 100.0], abs=0.01)
    assert y_m == pytest.approx([Y_M, Y_M - 100.0], abs=0.01)


def test_an_unknown_datum_is_refused() -> None:
    with pytest.raises(InputError, match="datum 'wgs72'"):
        Locator(NETWORK, "wgs72")


# Dishonest documents

FEEDS = sorted(HONEST)


def assert_rows_or_named_refusals(feed: str, payload: bytes) -> None:
    inbox = fresh(feed)
    accepted = inbox.offer(Frame(feed, "source", 0, T0_S, T0_S + 0.5, payload), T0_S + 0.5)
    tally = inbox.tallies[feed]
    assert tally.frames_accepted == accepted
    assert tally.rows_offered == tally.rows_accepted + tally.rows_refused
    assert tally.rows_refused == inbox.quarantine.total
    for refused in inbox.quarantine.newest():
        assert refused.feed == feed
        assert ": " in refused.detail, "names the field"
    inbox.take(T0_S + 1)


def test_every_format_of_documents_is_fuzzed() -> None:
    assert {*FEEDS, "rsm", "bsm", "spat", "rsi"} == set(FORMATS)


@settings(max_examples=150)
@given(st.sampled_from(FEEDS), st.binary(max_size=300))
def test_any_bytes_are_rows_or_a_named_refusal(feed: str, payload: bytes) -> None:
    assert_rows_or_named_refusals(feed, payload)


@settings(max_examples=300)
@given(
    st.sampled_from(FEEDS),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
    st.integers(0, 10**6) | st.just(-1),
    st.integers(0, 10**6),
)
def test_spoilt_documents_are_rows_or_a_named_refusal(
    feed: str, spoil: list[tuple[int, int]], keep: int, doubled: int
) -> None:
    changed = bytearray(HONEST[feed])
    for at, byte in spoil:
        changed[at % len(changed)] = byte
    if keep >= 0:
        del changed[keep % (len(changed) + 1) :]
    if doubled % 3 == 0:
        changed += changed[doubled % (len(changed) + 1) :]
    assert_rows_or_named_refusals(feed, bytes(changed))


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=250)
@given(st.sampled_from(("counts_json", "wzdx", "cma")), st.data())
def test_a_json_document_with_one_value_exchanged_is_rows_or_a_named_refusal(feed: str, data: st.DataObject) -> None:
    document = json.loads(HONEST[feed])
    target = document
    while True:
        keys = sorted(target) if isinstance(target, dict) else list(range(len(target)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(target[key], dict | list) and target[key] and data.draw(st.booleans()):
            target = target[key]
            continue
        break
    target[key] = data.draw(ANY_JSON)
    assert_rows_or_named_refusals(feed, json.dumps(document).encode())


CELLS = (
    st.text(max_size=8) | st.floats().map(str) | st.integers().map(str) | st.sampled_from(("", "nan", "1e999", "\0"))
)


@settings(max_examples=200)
@given(st.sampled_from(("counts_csv", "v2x_seq")), st.data())
def test_a_table_with_one_cell_exchanged_is_rows_or_a_named_refusal(feed: str, data: st.DataObject) -> None:
    rows = list(csv.reader(io.StringIO(HONEST[feed].decode())))
    row = data.draw(st.sampled_from(rows))
    row[data.draw(st.integers(0, len(row) - 1))] = data.draw(CELLS)
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    assert_rows_or_named_refusals(feed, text.getvalue().encode("utf-8", "surrogatepass"))


GROUPS = (
    *("METAR", "ZBAA", "012230Z", "36004MPS", "9999", "P6SM", "1/0SM", "-RA", "VCTS", "M01/M03", "RMK", "P0010"),
    *("/", "=", "\n", "31", "320000Z", "CAVOK"),
)


@settings(max_examples=200)
@given(st.lists(st.sampled_from(GROUPS), max_size=14))
def test_groups_in_any_order_are_rows_or_a_named_refusal(groups: list[str]) -> None:
    assert_rows_or_named_refusals("metar", " ".join(groups).encode())
