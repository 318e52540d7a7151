"""SUMO's own output, of a real run and damaged on purpose."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sumolib
from sumolib.output import parse

from forecasting.reading import Unsaid, read_recording
from forecasting.recording import Recording
from forecasting.street_graph import on_streets
from networks.errors import InputError
from networks.readers.sumo import read_sumo
from tests.grids import draw_grid

ADDITIONAL = """<additional>
<edgeData id="all" file="edges.xml" period="60"/>
<edgeData id="used" file="used.xml" period="60" excludeEmpty="true"/>
<laneData id="lanes" file="lanes.xml" period="60"/>
<inductionLoop id="loop0" lane="A1B1_0" pos="-5" period="60" file="loops.xml"/>
<inductionLoop id="loop1" lane="B1C1_0" pos="-5" period="60" file="loops.xml"/>
<laneAreaDetector id="area" lane="A1B1_0" pos="100" endPos="-1" period="60" file="areas.xml.gz"/>
</additional>"""
ROUTES = '<routes><flow id="f" from="A1B1" to="B1C1" begin="60" end="200" period="5"/></routes>'


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five and a half minutes of vehicles from A1B1 to B1C1, from the second to the fourth minute."""
    folder = tmp_path_factory.mktemp("run")
    net = draw_grid(folder / "net.net.xml", 3, 200)
    (folder / "detectors.add.xml").write_text(ADDITIONAL)
    (folder / "cars.rou.xml").write_text(ROUTES)
    command = [sumolib.checkBinary("sumo"), "-n", net, "-r", "cars.rou.xml", "-a", "detectors.add.xml", "-e", "330"]
    subprocess.run([*command, "--no-step-log"], cwd=folder, check=True, capture_output=True)
    return folder


def read(path: Path) -> Recording:
    return read_recording(path, Unsaid(from_s=1000, time_zone="Asia/Shanghai"))


@pytest.mark.parametrize("name", ["edges.xml", "used.xml"])
def test_edges_have_the_flow_and_speed_that_sumo_wrote(run: Path, name: str) -> None:
    edges = read(run / name)
    assert (edges.step_s, edges.units, edges.time_zone) == (60, {"flow": "veh/h", "speed": "km/h"}, "Asia/Shanghai")
    assert edges.start_s.tolist() == [1000, 1060, 1120, 1180, 1240], "the half minute at the end is left out"
    flow, speed = (edges.channels[channel][:, edges.places.index("A1B1")] for channel in ("flow", "speed"))
    told = [(float(e.left), float(e.speed)) for e in parse(str(run / "used.xml"), "edge") if e.id == "A1B1"]
    assert flow.tolist() == [0, *(left * 60 for left, _ in told), 0]
    np.testing.assert_allclose(speed[1:4], [v * 3.6 for _, v in told], rtol=1e-6)
    assert np.isnan(speed[[0, 4]]).all(), "where nobody drives there is a flow of 0 and no speed"
    whole = edges.channels["flow"][:, edges.places.index("B1C1")].sum() / 60
    assert whole == 28, "every vehicle was done with its last edge once"
    assert len(edges.places) == (24 if name == "edges.xml" else 2)


def test_loops_and_areas_have_the_numbers_that_sumo_wrote(run: Path) -> None:
    loops, areas = read(run / "loops.xml"), read(run / "areas.xml.gz")
    assert (loops.places, areas.places) == (("loop0", "loop1"), ("area",))
    told = parse(str(run / "loops.xml"), "interval")
    for row in (r for r in told if float(r.end) < 330):
        at = int(float(row.end)) // 60 - 1, loops.places.index(row.id)
        assert loops.channels["flow"][at] == pytest.approx(float(row.flow))
        speed = float(row.speed) * 3.6 if float(row.speed) >= 0 else np.nan
        assert loops.channels["speed"][at] == pytest.approx(speed, nan_ok=True)
    assert areas.channels["flow"].sum() / 60 == 28
    np.testing.assert_array_equal(np.isnan(areas.channels["speed"]), areas.channels["flow"] == 0)


def test_the_net_tells_the_graph_between_edges(run: Path) -> None:
    streets = on_streets(read(run / "used.xml"), read_sumo(run / "net.net.xml"))
    ends = {(streets.places[a], streets.places[b]) for a, b in streets.edges.T}
    assert ends == {("A1B1", "B1C1")}
    net = sumolib.net.readNet(str(run / "net.net.xml"))
    lengths = [net.getEdge(edge).getLength() for edge in ("A1B1", "B1C1")]
    assert streets.edge_length_m[0] == pytest.approx(sum(lengths) / 2)
    assert streets.attributes["length_m"][0] == pytest.approx(net.getEdge(streets.places[0]).getLength())
    whole = on_streets(read(run / "edges.xml"), read_sumo(run / "net.net.xml"))
    led_to = {(a.getID(), b.getID()) for a in net.getEdges() for b in a.getOutgoing()}
    assert {(whole.places[a], whole.places[b]) for a, b in whole.edges.T} == led_to
    with pytest.raises(InputError, match="loop0"):
        on_streets(read(run / "loops.xml"), read_sumo(run / "net.net.xml"))


def loops_xml(*intervals: str) -> str:
    return f"<detector>{''.join(f'<interval {text}/>' for text in intervals)}</detector>"


def loop(begin: float, end: float, name: str = "D1", vehicles: object = 3, speed: object = 10) -> str:
    return f'begin="{begin}" end="{end}" id="{name}" nVehContrib="{vehicles}" flow="0" speed="{speed}"'


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (loops_xml(loop(0, 60), loop(30, 90)), "D1 from 30 to 90: begins before 60"),
        (loops_xml(loop(0, 60), loop(0, 60)), "D1 from 0 to 60: begins before 60"),
        (loops_xml(loop(60, 120), loop(0, 60)), "D1 from 0 to 60: begins before 120"),
        (loops_xml(loop(0, 60), loop(30, 90, "D2")), "from 30: overlaps others of 60 s"),
        (loops_xml(loop(0, 60), loop(60, 180)), "D1 from 60 to 180: lasts 120 s, unlike"),
        (loops_xml(loop(0, 60), loop(60, 90), loop(90, 150)), "D1 from 90 to 150: lasts 60 s, unlike"),
        (loops_xml(loop(0, 60), loop(0, 30, "D2"), loop(60, 120)), "D1 from 60 to 120: lasts 60 s, unlike"),
        (loops_xml(loop(0, 0)), "D1 from 0 to 0: lasts 0 s"),
        (loops_xml(loop(0, 60, vehicles="nan")), "D1 from 0 to 60: nVehContrib: 'nan' is no number"),
        (loops_xml(loop(0, 60, vehicles=-2)), "D1 from 0 to 60: nVehContrib: a count is below 0"),
        (loops_xml(loop(0, 60, speed="inf")), "D1 from 0 to 60: speed: 'inf' is no number"),
        (loops_xml(loop(0, 60, speed="fast")), "D1 from 0 to 60: speed: 'fast' is no number"),
        (loops_xml(loop(0.5, 60.5)), r"begin: 0\.5 is no whole second"),
        (loops_xml('end="60" id="D1" nVehContrib="1" speed="1"'), "D1 from . to 60: has no begin"),
        (loops_xml(loop(0, 60), 'begin="60" end="120" id="D1"'), "D1 from 60 to 120: is of E2, the rest of E1"),
        (loops_xml('begin="60" end="120" id="D1"'), "D1 from 60 to 120: has no nVehLeft"),
        (loops_xml(loop(0, 60, name="")), "interval from 0 to 60: has no id"),
        ("<detector/>", "holds no whole interval"),
        ("<additional/>", "<additional> is no output"),
        ("", "cut off or damaged after interval none"),
    ],
)
def test_a_defect_is_named_by_detector_and_interval(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "loops.xml").write_text(text)
    with pytest.raises(InputError, match=rf"loops\.xml: .*{named}"):
        read(tmp_path / "loops.xml")


def test_a_file_that_was_cut_off_says_how_far_it_came(run: Path, tmp_path: Path) -> None:
    text = (run / "edges.xml").read_text()
    for share in (0.3, 0.6, 0.9):
        (tmp_path / "edges.xml").write_text(text[: int(share * len(text))])
        with pytest.raises(InputError, match=r"edges\.xml: cut off or damaged after interval"):
            read(tmp_path / "edges.xml")
    (tmp_path / "edges.xml.gz").write_bytes(gzip.compress(text.encode())[:-20])
    with pytest.raises(InputError, match=r"edges\.xml\.gz: .* after interval"):
        read(tmp_path / "edges.xml.gz")


def test_lanes_and_emissions_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="laneData"):
        read(run / "lanes.xml")
    bare = re.sub(r' left="\d+"', "", (run / "edges.xml").read_text())
    (tmp_path / "emissions.xml").write_text(bare)
    with pytest.raises(InputError, match=r"A0A1 from 0\.00 to 60\.00: has no left"):
        read(tmp_path / "emissions.xml")


def test_a_loop_that_was_silent_for_an_interval_is_missing_then(tmp_path: Path) -> None:
    (tmp_path / "loops.xml").write_text(loops_xml(loop(0, 60), loop(0, 60, "D2", 0, -1), loop(60, 120)))
    loops = read(tmp_path / "loops.xml")
    np.testing.assert_array_equal(loops.channels["flow"], [[180, 0], [180, np.nan]])
    np.testing.assert_array_equal(loops.channels["speed"], [[36, np.nan], [36, np.nan]])
