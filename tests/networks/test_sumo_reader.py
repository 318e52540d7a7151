"""The SUMO reader against sumolib, against SUMO's own rules, and against broken files."""

from __future__ import annotations

import contextlib
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sumolib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks import graph
from networks.city import load_network, read_city
from networks.errors import NetworkError
from networks.graph import OFF, Network, Schedule
from networks.readers.sumo import read_sumo, with_plan
from networks.validate import find_defects

DrawNet = Callable[..., Path]
CITIES = [
    "networks/bologna_joined",
    "networks/hamburg_tavf",
    "networks/wildau",
    "networks/beijing_chaoyangmen",
    "resco/ingolstadt21",
    "resco/cologne8",
]


@pytest.fixture(scope="module", params=CITIES)
def city(request: pytest.FixtureRequest, shared_data: Path) -> Network:
    return load_network(read_city(shared_data / request.param))


def test_conflicts_are_sound_on_real_networks(city: Network) -> None:
    for signal in city.signals:
        assert (signal.conflicts == signal.conflicts.T).all()
        assert not signal.conflicts.diagonal().any()
        assert not (signal.conflicts & ~signal.foes).any()
        shown = [p.state for programme in signal.programmes for p in programme.phases]
        shown += [stage.state for stage in signal.stages]
        for state in shown:
            lit = np.array([c in "GgyY" for c in state[: signal.link_count]])
            assert not signal.conflicts[np.ix_(lit, lit)].any(), (signal.id, state)


def test_stages_are_the_greens_of_the_active_programme(city: Network) -> None:
    for signal in city.signals:
        assert signal.stages
        for stage in signal.stages:
            assert set(stage.state) <= set("GgrosO")
            assert set(stage.state) & set("Gg")
        green_s = sum(p.duration_s for p in signal.programme.phases if not set(p.state) & set("yYuU"))
        assert sum(stage.shipped_green_s for stage in signal.stages) <= green_s


def test_every_movement_joins_lanes_across_its_node(city: Network) -> None:
    moves, edges, lane_edge = city.movements, city.edges, city.lanes.edge
    assert (edges.to_node[lane_edge[moves.from_lane]] == moves.node).all()
    assert (edges.from_node[lane_edge[moves.to_lane]] == moves.node).all()
    for k, signal in enumerate(city.signals):
        for link, members in enumerate(signal.link_movements):
            assert all(moves.signal[m] == k and moves.link[m] == link for m in members)
            assert not (members and signal.pedestrian[link])


@pytest.mark.parametrize("name", ["bologna_joined", "hamburg_tavf", "wildau"])
def test_counts_and_lengths_agree_with_sumolib(shared_data: Path, name: str) -> None:
    path = shared_data / "networks" / name / "net.net.xml.gz"
    network, other = read_sumo(path), sumolib.net.readNet(str(path))
    assert set(network.edges.ids) == {e.getID() for e in other.getEdges()}
    theirs = {lane.getID(): lane for e in other.getEdges() for lane in e.getLanes()}
    assert set(network.lanes.ids) == set(theirs)
    for lane in range(0, len(network.lanes.ids), 7):
        assert network.lanes.length_m[lane] == theirs[network.lanes.ids[lane]].getLength()
        assert network.lanes.speed_limit_mps[lane] == theirs[network.lanes.ids[lane]].getSpeed()
    ours = {
        (network.lanes.ids[a], network.lanes.ids[b])
        for a, b in zip(network.movements.from_lane, network.movements.to_lane, strict=True)
    }
    assert ours == {
        (c.getFromLane().getID(), c.getToLane().getID())
        for e in other.getEdges()
        for several in e.getOutgoing().values()
        for c in several
    }


def test_pedestrian_crossings_of_wildau(shared_data: Path) -> None:
    path = shared_data / "networks" / "wildau" / "net.net.xml.gz"
    network = read_sumo(path)
    text = gzip.decompress(path.read_bytes()).decode()
    crossings = [(s, c) for s in network.signals for c in s.crossings]
    assert crossings
    for signal, crossing in crossings:
        lane = re.search(rf'<lane id="{re.escape(crossing.id)}_0"[^>]* length="([\d.]+)"', text)
        assert lane is not None
        assert crossing.length_m == float(lane.group(1))
        assert all(signal.pedestrian[link] != bool(signal.link_movements[link]) for link in crossing.links)
        assert all(signal.pedestrian_clearance_s[link] >= crossing.length_m / 1.2 for link in crossing.links)
        assert len(crossing.shape) >= 4
        for edge in crossing.edges:
            assert network.edges.from_node[edge] in signal.nodes or network.edges.to_node[edge] in signal.nodes
    for signal in network.signals:
        for link in np.flatnonzero(signal.pedestrian):
            assert signal.conflicts[link][~signal.pedestrian].any()


def test_crossroads_with_walkers(crossroads: DrawNet) -> None:
    walks = ["--sidewalks.guess", "--sidewalks.guess.max-speed", "30"]
    walks += ["--crossings.guess", "--crossings.guess.speed-threshold", "30"]
    network = read_sumo(crossroads("traffic_light", *walks))
    (signal,) = network.signals
    assert len(signal.crossings) == 4
    assert signal.pedestrian.sum() == 4
    assert {len(c.edges) for c in signal.crossings} == {2}
    assert not set(network.edges.ids) & {c.id for c in signal.crossings}
    sidewalk = network.lanes.allowed == graph.PEDESTRIAN
    assert sidewalk.sum() == 8
    assert (network.edges.lane_count == 2).all()


def test_two_junctions_of_one_controller(draw_net: DrawNet) -> None:
    nodes = {
        "l": (0, 0, "traffic_light"),
        "r": (30, 0, "traffic_light"),
        "w": (-200, 0, "priority"),
        "e": (230, 0, "priority"),
        "ln": (0, 200, "priority"),
        "rn": (30, 200, "priority"),
    }
    edges = {"wl": ("w", "l", 1, 13.9), "lr": ("l", "r", 1, 13.9), "re": ("r", "e", 1, 13.9)}
    edges |= {"lnl": ("ln", "l", 1, 13.9), "rnr": ("rn", "r", 1, 13.9)}
    network = read_sumo(draw_net(nodes, edges, "--tls.join", "--tls.join-dist", "50"))
    (signal,) = network.signals
    assert len(signal.nodes) == 2
    node_of = {
        link: int(network.movements.node[members[0]]) for link, members in enumerate(signal.link_movements) if members
    }
    for i, j in np.argwhere(signal.foes):
        assert node_of[int(i)] == node_of[int(j)]
    assert signal.foes.sum() == 4


def copies(net: Path, *names: str) -> str:
    logic = re.search(r"<tlLogic.*?</tlLogic>", net.read_text(), re.DOTALL)
    assert logic is not None
    return "".join(logic.group(0).replace('programID="0"', f'programID="{name}"') for name in names)


def test_programme_loaded_last_is_active(crossroads: DrawNet, tmp_path: Path) -> None:
    net, extra = crossroads("traffic_light"), tmp_path / "tls.add.xml"
    extra.write_text(
        f"<additional>{copies(net, 'X', 'Y')}<tlLogic id='c' programID='off' type='static'/></additional>"
    )
    assert [p.id for p in read_sumo(net, [extra]).signals[0].programmes] == ["Y", "X", "0"]
    assert read_sumo(net, [extra]).fingerprint != read_sumo(net).fingerprint
    extra.write_text(f"<additional>{copies(net, '0')}</additional>")
    with pytest.raises(NetworkError, match="'0' of signal 'c' is loaded twice"):
        read_sumo(net, [extra])


def test_connector_edges_are_roads(crossroads: DrawNet) -> None:
    net = crossroads("priority")
    before = read_sumo(net)
    net.write_text(net.read_text().replace('<edge id="nc" ', '<edge id="nc" function="connector" '))
    assert read_sumo(net).edges.ids == before.edges.ids


@pytest.mark.parametrize(
    ("pattern", "replacement", "defect"),
    [
        (r"(?s)<tlLogic.*</tlLogic>", "", "'c' controls connections but has no tlLogic"),
        (r'(state="[a-zA-Z]{3})[a-zA-Z]*"', r'\1"', "'c' has .* links but a phase with 3 lamps"),
        (r'(?s)<junction id="n".*?</?junction[^>]*>', "", "ends at junction 'n'"),
        (r'(<lane id="nc_0"[^>]*) length="[^"]*"', r"\1", "length"),
        (r'speed="16.70"', 'speed="fast"', "fast"),
        (r"(?s)<edge id.*</edge>", "", "holds no road edge"),
        (r'(from="nc" to="ce"[^>]*) toLane="."', r'\1 toLane="7"', "lane 7 of edge ce"),
        (r'(<lane id="nc_0"[^>]*) shape="[^"]*"', r'\1 shape="nan,0 1,1"', "'nc' is wrong"),
        (r'(<phase) duration="[0-9.]+"', r'\1 duration="-4"', "'c' is wrong"),
        (r"</net>", "", "not readable as SUMO XML"),
    ],
)
def test_defects_are_named(crossroads: DrawNet, pattern: str, replacement: str, defect: str) -> None:
    net = crossroads("traffic_light", "--no-turnarounds")
    text = re.sub(pattern, replacement, net.read_text())
    assert text != net.read_text()
    net.write_text(text)
    with pytest.raises(NetworkError, match=defect) as caught:
        read_sumo(net)
    assert "a.net.xml" in str(caught.value)


@given(data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_spoilt_files_are_read_or_refused(sound_lines: list[str], tmp_path: Path, data: st.DataObject) -> None:
    """Whatever one attribute or line is turned into, the reader and the checks answer or raise NetworkError."""
    lines = list(sound_lines)
    row = data.draw(st.integers(0, len(lines) - 1))
    attributes = re.findall(r'\s\w+="[^"]*"', lines[row])
    if attributes:
        name, _, _ = (chosen := data.draw(st.sampled_from(attributes))).partition("=")
        values = [f'{name}="{value}"' for value in ("", "-1", "abc", "99", "1e400", "nan", "0,0")]
        lines[row] = lines[row].replace(chosen, data.draw(st.sampled_from(["", *values])), 1)
    else:
        del lines[row]
    spoilt = tmp_path / "spoilt.net.xml"
    spoilt.write_text("\n".join(lines))
    with contextlib.suppress(NetworkError):
        find_defects(read_sumo(spoilt))


@pytest.fixture
def sound_lines(crossroads: DrawNet) -> list[str]:
    return crossroads("traffic_light", "--no-turnarounds", lanes=1).read_text().splitlines()


def test_damaged_gzip_is_refused(crossroads: DrawNet, tmp_path: Path) -> None:
    packed = gzip.compress(crossroads("traffic_light").read_bytes())
    damaged = bytearray(packed)
    damaged[len(damaged) // 2] ^= 0xFF
    for content in (packed[:-30], packed[: len(packed) // 2], bytes(damaged)):
        broken = tmp_path / "broken.net.xml.gz"
        broken.write_bytes(content)
        with pytest.raises(NetworkError, match=r"broken\.net\.xml\.gz"):
            read_sumo(broken)
    with pytest.raises(NetworkError, match="gone"):
        read_sumo(tmp_path / "gone.net.xml")


def test_a_plan_in_force_leaves_what_a_signal_may_do(crossroads: DrawNet, tmp_path: Path) -> None:
    """Links wait for each other in interstages of ours: they hold neither stages nor clearances."""
    net, plan = crossroads("traffic_light"), tmp_path / "plan.add.xml"
    (before,) = read_sumo(net).signals
    first, closed = before.programme.phases[0].state, "r" * len(before.programme.phases[0].state)
    some = first.replace("G", "r", 1)
    seconds = [(first, 20), (re.sub("[Gg]", "y", first), 4), (closed, 6), (some, 1), (first, 1)]
    phases = "".join(f'<phase duration="{s}" state="{state}"/>' for state, s in seconds)
    plan.write_text(
        f'<additional><tlLogic id="c" type="static" programID="ours" offset="0">{phases}</tlLogic></additional>'
    )
    network = with_plan(read_sumo(net), plan)
    (after,) = network.signals
    assert [p.id for p in after.programmes] == ["ours", *(p.id for p in before.programmes)]
    assert after.stages == before.stages
    assert after.yellow_s == before.yellow_s
    np.testing.assert_array_equal(after.intergreen_s, before.intergreen_s)
    np.testing.assert_array_equal(after.conflicts, before.conflicts)
    assert network.fingerprint != read_sumo(net).fingerprint


def two_programmes(net: Path, waut: str) -> str:
    """Programmes "a" and "b" of the signal, of 20 and 30 s, "b" loaded last, and what tells when they run."""
    state = read_sumo(net).signals[0].programme.phases[0].state
    logics = "".join(
        f'<tlLogic id="c" type="static" programID="{name}" offset="0"><phase duration="{seconds}" state="{state}"/>'
        "</tlLogic>"
        for name, seconds in (("a", 20), ("b", 30))
    )
    return f"<additional>{logics}{waut}</additional>"


FOLLOWS = '<wautJunction wautID="w" junctionID="c"/>'
DAY = (
    '<WAUT id="w" refTime="100" startProg="a"><wautSwitch time="0:10:0" to="b"/>'
    f'<wautSwitch time="50" to="0"/><wautSwitch time="1000" to="off"/></WAUT>{FOLLOWS}'
)


def test_a_timetable_says_which_programme_is_in_force(crossroads: DrawNet, tmp_path: Path) -> None:
    net, extra = crossroads("traffic_light"), tmp_path / "day.add.xml"
    extra.write_text(two_programmes(net, DAY))
    for network in (read_sumo(net, [extra]), with_plan(read_sumo(net), extra)):
        (signal,) = network.signals
        assert [p.id for p in signal.programmes] == ["a", "b", "0"]
        assert signal.schedule is not None
        names = {k: p.id for k, p in enumerate(signal.programmes)} | {OFF: "off"}
        at = {s: names[signal.schedule.programme_at(s)] for s in (0, 149, 150, 699, 700, 1099, 1100, 99_999)}
        assert list(at.values()) == ["a", "a", "0", "0", "b", "b", "off", "off"]
        assert [signal.schedule.next_change_s(s) for s in (0.0, 150.0, 1100.0)] == [150.0, 700.0, np.inf]
    assert read_sumo(net).signals[0].schedule is None


@given(st.floats(0.0, 400_000.0))
def test_a_timetable_of_a_day_repeats(second: float) -> None:
    schedule = Schedule(((25_000.0, 1), (60_000.0, 2)), 86_400.0)
    hour = second % 86_400.0
    night = 0 if second < 25_000.0 else 2
    assert schedule.programme_at(second) == (1 if 25_000.0 <= hour < 60_000.0 else 2 if hour >= 60_000.0 else night)
    change_s = schedule.next_change_s(second)
    assert second < change_s <= second + 86_400.0
    assert change_s % 86_400.0 in (25_000.0, 60_000.0)


@pytest.mark.parametrize(
    ("waut", "defect"),
    [
        (FOLLOWS, "wautJunction 'c': there is no WAUT 'w'"),
        (DAY.replace('to="b"', 'to="x"'), "WAUT 'w': signal 'c' has no programme 'x'"),
        (DAY.replace('"50"', '"soon"'), "<WAUT> 'w' is wrong: no moment: 'soon'"),
        (DAY.replace('to="b"', ""), "<WAUT> 'w' lacks the attribute 'to'"),
        (DAY.replace('junctionID="c"', 'junctionID="d"'), "wautJunction 'd': the network has no such signal"),
    ],
)
def test_a_timetable_that_does_not_fit_is_refused(
    crossroads: DrawNet, tmp_path: Path, waut: str, defect: str
) -> None:
    net, plan = crossroads("traffic_light"), tmp_path / "plan.add.xml"
    plan.write_text(two_programmes(net, waut))
    with pytest.raises(NetworkError, match=defect):
        with_plan(read_sumo(net), plan)


ONE_LAMP = (
    '<additional><tlLogic id="ID" programID="p" type="static"><phase duration="9" state="G"/></tlLogic></additional>'
)


@pytest.mark.parametrize(
    ("text", "defect"),
    [
        (ONE_LAMP.replace("ID", "x"), "tlLogic 'x': the network has no such signal"),
        (ONE_LAMP.replace("ID", "c"), "'c' has .* links but a phase with 1 lamps"),
        ("<additional>", "not readable as SUMO XML"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused(crossroads: DrawNet, tmp_path: Path, text: str, defect: str) -> None:
    plan = tmp_path / "plan.add.xml"
    plan.write_text(text)
    with pytest.raises(NetworkError, match=defect) as caught:
        with_plan(read_sumo(crossroads("traffic_light")), plan)
    assert "plan.add.xml" in str(caught.value)
