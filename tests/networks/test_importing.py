"""Every map file becomes a network that SUMO itself loads, or an error that names the defect."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import sumolib

from networks.city import load_network, read_city
from networks.errors import InputError, NetworkError
from networks.findings import SEVERITIES
from networks.importing import import_network
from networks.netconvert import summarise_messages
from networks.readers.formats import detect_format

FILES = {
    "networks/beijing_chaoyangmen/net.net.xml.gz": "sumo",
    "networks/bologna_joined/net.net.xml.gz": "sumo",
    "networks/hamburg_tavf/net.net.xml.gz": "sumo",
    "networks/wildau/net.net.xml.gz": "sumo",
    "networks/beijing_chaoyangmen/beijing.osm.xml.gz": "osm",
    "networks/format_samples/helsinki.osm.pbf": "pbf",
    "networks/format_samples/e6mini.xodr.gz": "opendrive",
    "networks/format_samples/fabriksgatan_traffic_lights.xodr.gz": "opendrive",
    "networks/format_samples/soderleden.xodr.gz": "opendrive",
    "networks/format_samples/straight_500m_signs.xodr.gz": "opendrive",
}


def assert_sumo_loads(net: Path) -> None:
    command = [sumolib.checkBinary("sumo"), "-n", str(net), "-e", "1", "--no-step-log", "--no-warnings"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_map_file_is_forgotten(shared_data: Path) -> None:
    patterns = ("*/*.net.xml.gz", "*/*.osm.xml.gz", "*/*.pbf", "*/*.xodr.gz")
    found = {
        str(p.relative_to(shared_data)) for pattern in patterns for p in (shared_data / "networks").glob(pattern)
    }
    assert found <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_file_imports_to_what_sumo_loads(shared_data: Path, tmp_path: Path, name: str) -> None:
    report = import_network(shared_data / name, tmp_path / "city")
    assert report.source_format == FILES[name]
    assert_sumo_loads(report.city.network)
    city = read_city(tmp_path / "city")
    assert city.findings == ()
    assert load_network(city).fingerprint == report.network.fingerprint
    assert (report.network.edges.lane_count > 0).any()
    with (tmp_path / "city" / "findings.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    features = json.loads((tmp_path / "city" / "findings.geojson").read_text("utf-8"))["features"]
    assert len(rows) == len(features) == len(report.findings)
    assert {row["severity"] for row in rows} <= set(SEVERITIES)


def test_osm_is_drawn_in_utm_with_street_names(shared_data: Path, tmp_path: Path) -> None:
    network = import_network(shared_data / "networks/beijing_chaoyangmen/beijing.osm.xml.gz", tmp_path).network
    assert "+proj=utm +zone=50" in str(network.projection)
    assert any("朝阳门" in name for name in network.edges.names)
    assert len(network.signals) >= 5
    assert network.edges.speed_limit_mps.max() < 28  # untagged streets are urban, not rural


def draw_osm(path: Path) -> Path:
    """A signalised crossroads of two untagged-speed primary roads, 400 m long each."""
    places = {1: (39.9, 116.4), 2: (39.9018, 116.4), 3: (39.9, 116.4023), 4: (39.8982, 116.4), 5: (39.9, 116.3977)}
    nodes = "".join(
        f"<node id='{k}' lat='{lat}' lon='{lon}' version='1'>"
        + ("<tag k='highway' v='traffic_signals'/>" if k == 1 else "")
        + "</node>"
        for k, (lat, lon) in places.items()
    )
    tags = "<tag k='highway' v='primary'/><tag k='lanes' v='4'/>"
    ways = "".join(
        f"<way id='{10 + k}' version='1'><nd ref='{k}'/><nd ref='1'/>"  # codespell:ignore nd
        f"{tags}<tag k='name' v='荣华路 {k}'/></way>"
        for k in (2, 3, 4, 5)
    )
    path.write_text(f"<osm version='0.6'>{nodes}{ways}</osm>", encoding="utf-8")
    return path


def test_walkers_get_crossings_when_asked(tmp_path: Path) -> None:
    source = draw_osm(tmp_path / "map.osm")
    (driving,) = import_network(source, tmp_path / "driving").network.signals
    assert not driving.crossings
    report = import_network(source, tmp_path / "walking", walking=True)
    (walking,) = report.network.signals
    assert len(walking.crossings) == 4
    assert walking.pedestrian.sum() == 4
    assert set(report.network.edges.names) == {f"荣华路 {k}" for k in (2, 3, 4, 5)}
    assert np.allclose(report.network.edges.speed_limit_mps, 50 / 3.6, atol=0.01)
    assert_sumo_loads(report.city.network)


def test_lost_direct_connection_is_said(shared_data: Path, tmp_path: Path) -> None:
    report = import_network(shared_data / "networks/format_samples/soderleden.xodr.gz", tmp_path)
    assert report.findings[0].kind == "lost_connection"
    assert report.findings[0].severity == "error"


def test_a_folder_is_described_without_copying(shared_data: Path, tmp_path: Path) -> None:
    source = (shared_data / "networks" / "bologna_joined").resolve()
    report = import_network(source, tmp_path)
    again = read_city(tmp_path)
    assert again.network == source / "net.net.xml.gz"
    assert again.programmes == (source / "tls.add.xml",)
    assert again.end_s == report.city.end_s == 3600.0
    assert any("detectors.add.xml" in f.text for f in report.findings)


TORN = [
    ("networks/wildau/net.net.xml.gz", "torn"),
    ("networks/beijing_chaoyangmen/beijing.osm.xml.gz", "torn"),
    ("networks/format_samples/fabriksgatan_traffic_lights.xodr.gz", "torn"),
    ("networks/format_samples/helsinki.osm.pbf", "protobuf"),
]


@pytest.mark.parametrize(("name", "defect"), TORN)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_torn_files_are_refused(shared_data: Path, tmp_path: Path, name: str, defect: str, share: float) -> None:
    whole = (shared_data / name).read_bytes()
    torn = tmp_path / Path(name).name
    torn.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(NetworkError, match=defect) as caught:
        import_network(torn, tmp_path / "city")
    assert torn.name in str(caught.value)
    assert not (tmp_path / "city" / "city.toml").exists()


@pytest.mark.parametrize("name", ["networks/beijing_chaoyangmen/beijing.osm.xml.gz", TORN[2][0]])
def test_torn_text_inside_a_whole_gzip_is_refused(shared_data: Path, tmp_path: Path, name: str) -> None:
    text = gzip.decompress((shared_data / name).read_bytes())
    torn = tmp_path / Path(name).name
    torn.write_bytes(gzip.compress(text[: len(text) // 2]))
    with pytest.raises(NetworkError, match="not whole as XML"):
        import_network(torn, tmp_path / "city")


@pytest.mark.parametrize(
    ("content", "defect"),
    [
        (b"", "not whole as XML"),
        (b"\x00\x01garbage" * 50, "not whole as XML"),
        (b"<routes/>", "<routes> is no road network"),
        (b"<net/>", "holds no road edge"),
        (b"<osm version='0.6'/>", "netconvert cannot use it"),
        (b"<OpenDRIVE><header revMajor='1' revMinor='4'/></OpenDRIVE>", "holds no <road>"),
        (gzip.compress(b"<net/>", mtime=0)[:-4], "torn"),
    ],
)
def test_garbage_is_named(tmp_path: Path, content: bytes, defect: str) -> None:
    source = tmp_path / "map.file"
    source.write_bytes(content)
    with pytest.raises(NetworkError, match=defect) as caught:
        import_network(source, tmp_path / "city")
    assert str(caught.value).startswith(str(source))


def test_format_is_told_by_content_not_by_name(shared_data: Path, tmp_path: Path) -> None:
    for name, kind in FILES.items():
        disguised = tmp_path / "map"
        shutil.copyfile(shared_data / name, disguised)
        assert detect_format(disguised) == kind


def test_missing_source_and_overwriting_itself_are_refused(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        import_network(tmp_path / "gone.net.xml", tmp_path)
    net = tmp_path / "net.net.xml.gz"
    shutil.copyfile(shared_data / "networks/beijing_chaoyangmen/net.net.xml.gz", net)
    with pytest.raises(InputError, match="another folder"):
        import_network(net, tmp_path)
    assert net.is_file()
    with pytest.raises(InputError, match="OpenStreetMap only"):
        import_network(net, tmp_path / "city", walking=True)


def test_a_failed_import_leaves_the_city_before_it(tmp_path: Path) -> None:
    import_network(draw_osm(tmp_path / "map.osm"), tmp_path / "city")
    before = {p.name: p.read_bytes() for p in (tmp_path / "city").iterdir()}
    broken = tmp_path / "broken.net.xml"
    lane = "<lane id='a_0' index='0' speed='1' length='1' shape='0,0 1,0'/>"
    broken.write_text(f"<net><edge id='a' from='x' to='y'>{lane}</edge></net>")
    with pytest.raises(NetworkError, match="junction 'x'"):
        import_network(broken, tmp_path / "city")
    assert {p.name: p.read_bytes() for p in (tmp_path / "city").iterdir()} == before


def test_equal_messages_are_told_once() -> None:
    lines = [
        "Warning: Discarding way '1' because it has only 1 node(s)",
        "Warning: Discarding way '22' because it has only 1 node(s)",
        "Warning: Edge '7' has no lanes.",
        "Warning: Environment variable SUMO_HOME is not set.",
        "Success.",
    ]
    found = summarise_messages(lines)
    assert [(f.count, f.subject, f.severity) for f in found] == [(2, "1", "note"), (1, "7", "warning")]
