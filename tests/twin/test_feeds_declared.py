"""A file declares a city's feeds; a recording of them replays through the same adapters."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from networks import day_one
from networks.city import Detector
from networks.coordinates import wgs84_to_gcj02
from networks.errors import InputError
from networks.messages import FORMATS, Frame
from tests.twin import placed_town as town
from tests.twin.test_feeds_documents import HONEST
from twin.commands.replay import replay
from twin.feed_declarations import make_formats, read_declarations
from twin.inbox import Inbox
from twin.numbering import own_numbering
from twin.privacy import Pseudonyms
from twin.recorder import Recorder
from twin.replay import survey
from twin.road_messages import map_value

NETWORK = town.placed_crossroads()
T0_S = town.T0_S
DETECTORS = tuple(Detector(f"loop{i}", i, 95.0, "count") for i in range(4))
SIGNAL = NETWORK.signals[0].id

EVERY_FORMAT = f"""
[[feed]]
format = "rsm"
datum = "gcj02"
units = {{ unit0001 = "{SIGNAL}" }}
[[feed]]
format = "bsm"
[[feed]]
format = "spat"
maps = ["crossroads.map"]
[[feed]]
format = "rsi"
region = 7
closing = [501]
[[feed]]
format = "v2x_seq"
intersections = {{ "yizhuang#4" = {{ signal = "{SIGNAL}", east_m = 200.0, north_m = 200.0 }} }}
[[feed]]
format = "counts_csv"
lateness_s = 900
[[feed]]
format = "counts_json"
fields = {{ interval = "", interval_s = 60 }}
[[feed]]
format = "wzdx"
[[feed]]
format = "metar"
[[feed]]
format = "cma"
[[feed]]
format = "cap"
[[feed]]
format = "gat1049"
zone_h = 0
[[feed]]
format = "gtfs_rt"
kind = "tram"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    value = map_value(NETWORK, own_numbering(NETWORK, 7), 0, now_s=T0_S, count=0)
    (tmp_path / "crossroads.map").write_bytes(day_one.encode("MAP", value))
    target = tmp_path / "feeds.toml"
    target.write_text(EVERY_FORMAT)
    return target


def test_every_format_can_be_declared(file: Path) -> None:
    declared = read_declarations(file)
    assert {one.format for one in declared} == set(FORMATS)
    names = Pseudonyms(b"test")
    formats = make_formats(declared, NETWORK, DETECTORS, names)
    assert {adapter.feed: adapter.delivers for adapter in formats} == FORMATS
    inbox = Inbox(NETWORK, DETECTORS, pseudonyms=names, formats=formats)
    for feed, payload in HONEST.items():
        assert inbox.offer(Frame(feed, "s", 0, T0_S, T0_S + 0.5, payload), T0_S + 1), feed


def test_the_declared_datum_holds(file: Path) -> None:
    x_m, y_m = town.middle()
    lon, lat = (part * 1e-7 for part in town.degrees(x_m, y_m))
    moved = [round(float(part) * 1e7) for part in wgs84_to_gcj02(lon, lat)]
    seen = town.participant(1, x_m, y_m)
    seen["pos"] = {"offsetLL": ("position-LatLon", {"lon": moved[0], "lat": moved[1]})}
    names = Pseudonyms(b"test")
    inbox = Inbox(NETWORK, (), formats=make_formats(read_declarations(file), NETWORK, DETECTORS, names))
    (frame,) = town.sent("RSM", town.rsm(seen))
    assert inbox.offer(frame, T0_S + 1)
    assert inbox.take(T0_S + 1).tracks.x_m.tolist() == pytest.approx([x_m], abs=0.05)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[[feed]]\nformat = 'telepathy'", "feed.0.format"),
        ("[[feed]]\nformat = 'rsm'\n[[feed]]\nformat = 'rsm'", "feed.1.format"),
        ("[[feed]]\nformat = 'rsm'\ndatum = 'wgs72'", "feed.0.datum"),
        ("[[feed]]\nformat = 'rsm'\nlatenes_s = 3", "unknown field"),
        ("[[feed]]\nformat = 'counts_csv'\nfields = { colour = 'red' }", "feed.0.fields"),
        ("feed = 3", "feed"),
        ("[[feed", "not TOML"),
    ],
)
def test_a_wrong_declaration_is_named(tmp_path: Path, text: str, named: str) -> None:
    target = tmp_path / "feeds.toml"
    target.write_text(text)
    with pytest.raises(InputError, match=named) as refused:
        read_declarations(target)
    assert "feeds.toml" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("format = 'rsm'\nunits = { u = 'nowhere' }", "nowhere"),
        ("format = 'spat'\nmaps = ['missing.map']", "maps"),
    ],
)
def test_what_does_not_fit_the_city_is_named(tmp_path: Path, text: str, named: str) -> None:
    target = tmp_path / "feeds.toml"
    target.write_text(f"[[feed]]\n{text}")
    with pytest.raises(InputError, match=named):
        make_formats(read_declarations(target), NETWORK, (), Pseudonyms())


def test_a_recording_replays_through_the_declared_adapters(file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    x_m, y_m = town.middle()
    with Recorder(log, city="", network="", pseudonyms=Pseudonyms(b"street")) as recorder:
        for k in range(20):
            at_s = T0_S + k
            frames = [*town.sent("BSM", town.bsm(x_m, y_m, at_s, count=k), at_s=at_s)]
            frames += [Frame(feed, "s", k, at_s, at_s + 0.5, data) for feed, data in HONEST.items() if k == 0]
            recorder.write(frames)
    looked = survey(log, network=NETWORK, detectors=DETECTORS, declared=read_declarations(file))
    assert looked == survey(log, network=NETWORK, detectors=DETECTORS, declared=read_declarations(file))
    assert looked.accepted is not None
    assert looked.accepted["bsm"] == 20
    assert set(looked.accepted) == {"bsm", *HONEST}
    assert looked.refused == {}
    bare = survey(log, network=NETWORK, detectors=DETECTORS)
    assert set(bare.refused) == {("(unknown)", "unknown_feed")}


def test_the_verb_names_a_wrong_declaration(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(replay)
    wrong = tmp_path / "feeds.toml"
    wrong.write_text("[[feed]]\nformat = 'telepathy'")
    result = CliRunner().invoke(app, [str(tmp_path), "--feeds", str(wrong), "--json"])
    assert result.exit_code == 2
    assert "telepathy" in result.output
