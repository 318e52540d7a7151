"""City folders: guessing, reading, writing."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import sumolib

from networks.city import Coverage, load_network, read_city, write_city
from networks.errors import CityError
from networks.export import export_sumo
from networks.readers.sumo import read_sumo

NET = '<net version="1.20"/>'


def run_sumo(city_folder: Path, seconds: float = 5.0) -> subprocess.CompletedProcess[str]:
    city = read_city(city_folder)
    command = [sumolib.checkBinary("sumo"), "-n", str(city.network), "--no-step-log", "--no-warnings"]
    command += ["-b", str(city.begin_s), "-e", str(city.begin_s + seconds)]
    if city.routes:
        command += ["-r", ",".join(map(str, city.routes))]
    if city.additions:
        command += ["-a", ",".join(map(str, city.additions))]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_bologna_is_understood_as_it_lies(shared_data: Path) -> None:
    city = read_city(shared_data / "networks" / "bologna_joined")
    assert city.network.name == "net.net.xml.gz"
    assert {p.name for p in city.routes} == {"cars.rou.xml.gz", "buses.rou.xml.gz"}
    assert [p.name for p in city.additional] == ["vtypes.add.xml", "bus_stops.add.xml"]
    assert [p.name for p in city.programmes] == ["tls.add.xml"]
    assert (city.begin_s, city.end_s) == (0.0, 3600.0)
    assert any("detectors.add.xml" in finding for finding in city.findings)
    network = load_network(city)
    assert {signal.programme.id for signal in network.signals} >= {"utopia"}


def test_alternative_demands_are_not_added_up(shared_data: Path) -> None:
    city = read_city(shared_data / "networks" / "wildau")
    assert [p.name for p in city.routes] == ["sampled.rou.xml.gz"]
    assert {"candidate_routes.rou.xml.gz", "manual_flows.rou.xml"} <= {f.split(":")[0] for f in city.findings}


@pytest.mark.parametrize("name", ["bologna_joined", "hamburg_tavf", "wildau", "beijing_chaoyangmen"])
def test_sumo_runs_the_guessed_city(shared_data: Path, name: str) -> None:
    done = run_sumo(shared_data / "networks" / name)
    assert done.returncode == 0, done.stderr


def test_configuration_is_followed_when_its_files_exist(shared_data: Path) -> None:
    city = read_city(shared_data / "resco" / "ingolstadt21")
    assert (city.begin_s, city.end_s) == (57600.0, 61200.0)
    stale = read_city(shared_data / "networks" / "hamburg_tavf")
    assert any("original.sumocfg: left out" in finding for finding in stale.findings)
    assert stale.additional[0].name == "vtypes.rou.xml"


def test_written_city_reads_back_equal(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(shared_data / "networks" / "bologna_joined", folder, copy_function=shutil.copyfile)
    folder.chmod(0o755)
    guessed = read_city(folder)
    write_city(guessed, folder)
    again = read_city(folder)
    assert again.findings == ()
    for field in ("name", "network", "routes", "additional", "programmes", "begin_s", "end_s", "epoch_s", "coverage"):
        assert getattr(again, field) == getattr(guessed, field)


def make_city(folder: Path, text: str) -> Path:
    (folder / "a.net.xml").write_text(NET)
    (folder / "city.toml").write_text(text)
    return folder


def test_defaults_of_a_short_description(tmp_path: Path) -> None:
    city = read_city(make_city(tmp_path, '[city]\nnetwork = "a.net.xml"\n'))
    assert (city.routes, city.begin_s, city.end_s, city.coverage) == ((), 0.0, 3600.0, Coverage())


def test_lists_of_a_citys_own_sensors_are_read_and_written(tmp_path: Path) -> None:
    (tmp_path / "loops.csv").write_text("id,lane,position_m\n")
    text = '[city]\nnetwork = "a.net.xml"\n[coverage]\nloops = "loops.csv"\nroadside = ["J1", "J2"]\n'
    city = read_city(make_city(tmp_path, text))
    assert city.coverage == Coverage(tmp_path / "loops.csv", ("J1", "J2"), 0.2)
    write_city(city, tmp_path)
    assert read_city(tmp_path).coverage == city.coverage


def test_a_citys_plan_is_in_force_and_teaches_nothing(crossroads: Callable[..., Path], tmp_path: Path) -> None:
    """As with `with_plan`: programmes of ours change what runs, not what a signal may do."""
    net = crossroads("traffic_light")
    (before,) = read_sumo(net).signals
    phases = "".join(f'<phase duration="7" state="{p.state}"/>' for p in before.programme.phases)
    (tmp_path / "retimed.add.xml").write_text(
        f'<additional><tlLogic id="c" type="static" programID="ours" offset="0">{phases}</tlLogic></additional>'
    )
    (tmp_path / "city.toml").write_text(f'[city]\nnetwork = "{net.as_posix()}"\nplan = "retimed.add.xml"\n')
    city = read_city(tmp_path)
    assert city.additions == (tmp_path / "retimed.add.xml",)
    (after,) = load_network(city).signals
    assert after.programme.id == "ours"
    assert after.stages == before.stages
    write_city(city, tmp_path)
    assert read_city(tmp_path) == city
    done = run_sumo(tmp_path)
    assert done.returncode == 0, done.stderr
    copy = read_city(export_sumo(city, tmp_path / "copy")[-1])
    assert copy.plan == tmp_path / "copy" / "retimed.add.xml"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("city = 3", "lacks the table"),
        ("[city]\n", "city.network"),
        ('[city]\nnetwork = "b.net.xml"', "b.net.xml"),
        ('[city]\nnetwork = "a.net.xml"\nroutes = "x"', "city.routes"),
        ('[city]\nnetwork = "a.net.xml"\nadditional = ["gone.xml"]', "gone.xml"),
        ('[city]\nnetwork = "a.net.xml"\nbegin_s = "now"', "begin_s"),
        ('[city]\nnetwork = "a.net.xml"\nbegin_s = 10\nend_s = 10', "city.end_s"),
        ('[city]\nnetwork = "a.net.xml"\nepoch = "2026-03-02T08:00:00"', "city.epoch"),
        ('[city]\nnetwork = "a.net.xml"\nspeed = 3', "city.speed"),
        ('[city]\nnetwork = "a.net.xml"\n[coverage]\nloops = 2', "coverage.loops"),
        ('[city]\nnetwork = "a.net.xml"\n[coverage]\nloops = "gone.csv"', "coverage.loops"),
        ('[city]\nnetwork = "a.net.xml"\n[coverage]\nroadside = [1]', "coverage.roadside"),
        ('[city]\nnetwork = "a.net.xml"\n[coverage]\ncameras = 1', "coverage.cameras"),
        ('[city]\nnetwork = "a.net.xml"\nplan = ["a.net.xml"]', "city.plan"),
        ('[city]\nnetwork = "a.net.xml"\nplan = "gone.add.xml"', "gone.add.xml"),
        ("[city", "not valid TOML"),
    ],
)
def test_defects_are_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(CityError, match=r"city\.toml") as caught:
        read_city(make_city(tmp_path, text))
    assert named in str(caught.value)


def test_folder_without_one_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CityError, match="no such city folder"):
        read_city(tmp_path / "nowhere")
    with pytest.raises(CityError, match="no SUMO network"):
        read_city(tmp_path)
    for name in ("a.net.xml", "b.net.xml"):
        (tmp_path / name).write_text(NET)
    with pytest.raises(CityError, match=r"a\.net\.xml, b\.net\.xml"):
        read_city(tmp_path)


def test_broken_files_are_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.net.xml").write_text(NET)
    whole = gzip.compress(b"<routes>" + b'<vehicle id="a" depart="0"/>' * 500 + b"</routes>")
    (tmp_path / "cars.rou.xml.gz").write_bytes(whole[:-20])
    (tmp_path / "odd.xml").write_text("<a><b></a>")
    city = read_city(tmp_path)
    assert city.routes == ()
    assert {"cars.rou.xml.gz", "odd.xml"} <= {f.split(":")[0] for f in city.findings}
