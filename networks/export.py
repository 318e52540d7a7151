"""Write a network for other programs: GeoParquet, GeoJSON, or a self-contained SUMO folder.

Imports geopandas: keep it out of processes that run SUMO.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from networks.city import CityFolder, write_city
from networks.errors import InputError
from networks.geo import WGS84, layers
from networks.graph import Network


def export_geoparquet(network: Network, folder: Path, crs: int | str = WGS84) -> tuple[Path, ...]:
    """One GeoParquet 1.0 file a layer, e.g. lanes.parquet. Raises NetworkError without a georeference."""
    frames = layers(network, crs)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, frame in frames.items():
        paths.append(folder / f"{name}.parquet")
        frame.to_parquet(paths[-1], index=False)
    return tuple(paths)


def export_geojson(network: Network, folder: Path) -> tuple[Path, ...]:
    """One GeoJSON file a layer, in WGS-84 as RFC 7946 wants it. Raises NetworkError without a georeference."""
    frames = layers(network, WGS84)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, frame in frames.items():
        paths.append(folder / f"{name}.geojson")
        paths[-1].write_text(frame.to_json(drop_id=True, to_wgs84=True, ensure_ascii=False), encoding="utf-8")
    return tuple(paths)


def export_sumo(city: CityFolder, folder: Path) -> tuple[Path, ...]:
    """Copy every file of a city and write its city.toml, so that the folder runs anywhere.

    Raises InputError when two of its files share a name or `folder` is the city itself.
    """
    folder = folder.resolve()
    copies: dict[Path, Path] = {}
    for source in dict.fromkeys(city.files):
        target = folder / source.name
        if target in copies.values():
            raise InputError(f"{source}: another file of the city has the same name")
        if target.exists() and target.samefile(source):
            raise InputError(f"{folder}: is the city itself; name another folder")
        copies[source] = target
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in copies.items():
        shutil.copyfile(source, target)
    moved = replace(
        city,
        folder=folder,
        network=copies[city.network],
        routes=tuple(copies[p] for p in city.routes),
        additional=tuple(copies[p] for p in city.additional),
        programmes=tuple(copies[p] for p in city.programmes),
        plan=None if city.plan is None else copies[city.plan],
    )
    return (*copies.values(), write_city(moved, folder))
