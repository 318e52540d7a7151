"""Coordinate systems against published points and themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from networks import coordinates as c
from networks.city import load_network, read_city
from networks.errors import InputError, NetworkError

# One degree of slack to the border of the rectangle, where the identity rule of the other side begins.
CHINA = st.tuples(st.floats(73.1, 136.8), st.floats(1.9, 54.8))
ANYWHERE = st.tuples(st.floats(-179.9, 179.9), st.floats(-85, 85))


@pytest.mark.parametrize(
    ("wgs", "gcj"),
    [  # examples of the widespread reference implementations
        ((121.5272106, 31.1774276), (121.531541859215, 31.17530398364597)),
        ((113.912316, 22.543847), (113.9171764808363, 22.540796131694766)),
        ((116.377817, 39.911954), (116.38404722455657, 39.91334545536069)),
        ((116.404, 39.915), (116.41024449916938, 39.91640428150164)),
    ],
)
def test_published_gcj02_points(wgs: tuple[float, float], gcj: tuple[float, float]) -> None:
    assert np.allclose(c.wgs84_to_gcj02(*wgs), gcj, rtol=0, atol=1e-9)
    assert np.allclose(c.gcj02_to_wgs84(*gcj), wgs, rtol=0, atol=1e-9)


def test_published_bd09_points() -> None:
    assert np.allclose(c.gcj02_to_bd09(116.404, 39.915), (116.41036949371029, 39.92133699351021), rtol=0, atol=1e-9)
    assert np.allclose(c.bd09_to_gcj02(116.404, 39.915), (116.39762729119315, 39.90865673957631), rtol=0, atol=1e-5)


@given(CHINA)
def test_chinese_systems_come_back_exactly(point: tuple[float, float]) -> None:
    for there, back in (
        (c.wgs84_to_gcj02, c.gcj02_to_wgs84),
        (c.gcj02_to_bd09, c.bd09_to_gcj02),
        (c.wgs84_to_bd09, c.bd09_to_wgs84),
    ):
        moved = there(*point)
        assert np.allclose(back(*moved), point, rtol=0, atol=1e-9)
        assert 1e-5 < np.hypot(moved[0] - point[0], moved[1] - point[1]) < 0.03


@given(ANYWHERE)
def test_outside_china_gcj02_is_wgs84(point: tuple[float, float]) -> None:
    if not c.inside_china(*point):
        assert tuple(map(float, c.wgs84_to_gcj02(*point))) == point
        assert tuple(map(float, c.gcj02_to_wgs84(*point))) == point


def test_arrays_keep_their_shape_and_mix_inside_and_outside() -> None:
    lon, lat = np.array([[11.34, 116.4], [10.0, 121.5]]), np.array([[44.5, 39.9], [53.5, 31.2]])
    x, y = c.wgs84_to_gcj02(lon, lat)
    assert x.shape == y.shape == (2, 2)
    assert ((x != lon) == [[False, True], [False, True]]).all()


def test_zones() -> None:
    assert (c.utm_epsg(116.5, 39.8), c.utm_epsg(11.3, 44.5), c.utm_epsg(151.2, -33.9)) == (32650, 32632, 32756)
    assert c.utm_epsg(180.0, 0.0) == 32660
    assert (c.cgcs2000_epsg(116.5), c.cgcs2000_epsg(75.0), c.cgcs2000_epsg(135.0)) == (4548, 4534, 4554)
    with pytest.raises(InputError, match="UTM"):
        c.utm_epsg(0.0, 89.0)
    with pytest.raises(InputError, match="CGCS2000"):
        c.cgcs2000_epsg(11.0)


def test_local_metres_of_bologna_are_in_bologna(shared_data: Path) -> None:
    network = load_network(read_city(shared_data / "networks" / "bologna_joined"))
    lon, lat = c.to_wgs84(network, network.node_xy[:, 0], network.node_xy[:, 1])
    assert ((lon > 11.25) & (lon < 11.40) & (lat > 44.45) & (lat < 44.55)).all()
    x, y = c.from_wgs84(network, lon, lat)
    assert np.abs(np.stack([x, y], axis=1) - network.node_xy).max() < 1e-4


def test_network_without_a_place_is_refused(tmp_path: Path) -> None:
    from networks.readers.sumo import read_sumo

    path = tmp_path / "a.net.xml"
    path.write_text(
        '<net><edge id="e" from="a" to="b"><lane id="e_0" index="0" speed="10" length="5" shape="0,0 5,0"/></edge>'
        '<junction id="a" x="0" y="0"/><junction id="b" x="5" y="0"/></net>'
    )
    with pytest.raises(NetworkError, match="no georeference"):
        c.to_wgs84(read_sumo(path), 0.0, 0.0)
