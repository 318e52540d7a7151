"""Exports, read back by other people's readers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import sumolib

from networks.city import load_network, read_city
from networks.errors import InputError, NetworkError
from networks.export import export_geojson, export_geoparquet, export_sumo
from networks.geo import LAYERS, edges_frame, layers, utm_of
from networks.graph import Network
from networks.readers.sumo import read_sumo


@pytest.fixture(scope="module")
def wildau(shared_data: Path) -> Network:
    return load_network(read_city(shared_data / "networks" / "wildau"))


def rows(network: Network) -> dict[str, int]:
    return {
        "edges": len(network.edges.ids),
        "lanes": len(network.lanes.ids),
        "movements": len(network.movements.from_lane),
        "signals": len(network.signals),
        "crossings": sum(len(s.crossings) for s in network.signals),
        "nodes": len(network.nodes),
    }


def test_geoparquet_comes_back_whole(wildau: Network, tmp_path: Path) -> None:
    paths = export_geoparquet(wildau, tmp_path)
    assert [p.stem for p in paths] == list(LAYERS)
    for path in paths:
        frame = gpd.read_parquet(path)
        assert frame.crs.to_epsg() == 4326
        assert len(frame) == rows(wildau)[path.stem] > 0
        west, south, east, north = frame.total_bounds
        assert 13.55 < west < east < 13.70
        assert 52.28 < south < north < 52.38


def test_geojson_comes_back_whole(wildau: Network, tmp_path: Path) -> None:
    for path in export_geojson(wildau, tmp_path):
        frame = pyogrio.read_dataframe(path)
        assert frame.crs.to_epsg() == 4326
        assert len(frame) == rows(wildau)[path.stem]
    lanes = pyogrio.read_dataframe(tmp_path / "lanes.geojson").set_index("id")
    assert lanes.index.tolist() == list(wildau.lanes.ids)


def test_places_agree_with_sumolib(wildau: Network, shared_data: Path) -> None:
    net = sumolib.net.readNet(str(shared_data / "networks" / "wildau" / "net.net.xml.gz"))
    nodes = layers(wildau)["nodes"].set_index("id")
    for node in net.getNodes()[::50]:
        lon, lat = net.convertXY2LonLat(*node.getCoord()[:2])
        assert np.allclose([nodes.geometry[node.getID()].x, nodes.geometry[node.getID()].y], [lon, lat], atol=1e-6)


def test_lengths_in_utm_are_lengths_in_metres(shared_data: Path) -> None:
    network = load_network(read_city(shared_data / "networks" / "bologna_joined"))
    frame = edges_frame(network, utm_of(network))
    assert frame.crs.to_epsg() == 32632
    drawn = np.array(
        [
            np.hypot(*np.diff(s.reshape(-1, 2), axis=0).T).sum()
            for s in map(network.edges.shape_xy.__getitem__, range(len(network.edges.ids)))
        ]
    )
    assert np.allclose(frame.length, drawn, rtol=1e-6)


def test_sumo_copy_runs_anywhere(shared_data: Path, tmp_path: Path) -> None:
    city = read_city(shared_data / "networks" / "bologna_joined")
    export_sumo(city, tmp_path / "copy")
    copy = read_city(tmp_path / "copy")
    assert all(
        p.parent == tmp_path / "copy" for p in (copy.network, *copy.routes, *copy.additional, *copy.programmes)
    )
    assert load_network(copy).fingerprint == load_network(city).fingerprint
    command = [sumolib.checkBinary("sumo"), "-n", copy.network, "-r", ",".join(map(str, copy.routes))]
    command += ["-a", ",".join(map(str, [*copy.additional, *copy.programmes])), "-e", "5", "--no-step-log"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    with pytest.raises(InputError, match="another folder"):
        export_sumo(copy, tmp_path / "copy")


def test_a_network_without_a_place_cannot_be_mapped(crossroads: Callable[..., Path], tmp_path: Path) -> None:
    network = read_sumo(crossroads("traffic_light"))
    with pytest.raises(NetworkError, match="no georeference"):
        export_geojson(network, tmp_path)
