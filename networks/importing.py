"""Import a road network from any known format into a city folder."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from networks.city import DEFAULT_EPOCH, CityFolder, Coverage, load_network, read_city, write_city
from networks.errors import InputError, NetworkError
from networks.findings import Finding, by_severity, write_findings
from networks.graph import Network
from networks.readers.formats import detect_format, open_maybe_gzip
from networks.readers.opendrive import convert_opendrive
from networks.readers.osm import convert_osm, convert_pbf
from networks.validate import find_defects

NETWORK_NAME = "net.net.xml.gz"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import made."""

    source_format: str  # sumo, osm, pbf, opendrive or city
    city: CityFolder
    network: Network
    findings: tuple[Finding, ...]  # most severe first
    files: tuple[Path, ...]  # written


def import_network(
    source: Path, folder: Path, *, walking: bool = False, epoch: datetime = DEFAULT_EPOCH
) -> ImportReport:
    """Write a city folder (network, city.toml, findings.geojson, findings.csv) from a map file or a SUMO folder.

    A folder is taken as it lies: its files are referred to, not copied. Stages: tell the format, convert, read,
    check, write. Raises NetworkError or CityError naming the defect; then nothing in `folder` has changed.
    """
    if not source.exists():
        raise InputError(f"{source}: no such file or folder")
    if epoch.tzinfo is None:
        raise InputError(f"epoch {epoch.isoformat()} lacks its offset from UTC")
    kind = "city" if source.is_dir() else detect_format(source)
    if walking and kind not in {"osm", "pbf"}:
        raise InputError(f"{source}: sidewalks and crossings are drawn for OpenStreetMap only; leave --walking out")
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "city":
        city = replace(read_city(source), folder=folder)
        notes = tuple(Finding("guess", "note", "", text) for text in city.findings)
        return _describe(kind, city, _read(city), notes)
    target = folder.resolve() / NETWORK_NAME
    if target.exists() and target.samefile(source):
        raise InputError(f"{source}: is the file that the import would write; name another folder")
    with TemporaryDirectory(prefix=".import-", dir=folder) as scratch:
        made = Path(scratch) / NETWORK_NAME
        messages = _convert(kind, source, made, walking=walking)
        city = CityFolder(
            name=source.name.split(".")[0],
            folder=folder,
            network=made,
            routes=(),
            additional=(),
            programmes=(),
            begin_s=0.0,
            end_s=3600.0,
            epoch_s=epoch.astimezone(UTC).timestamp(),
            coverage=Coverage(),
            findings=("no demand was imported: add route files as city.routes",),
        )
        try:
            network = _read(city)
        except NetworkError as defect:  # the scratch file is nothing to the user
            raise NetworkError(str(defect).replace(str(made), str(source))) from defect
        made.replace(target)
    return _describe(kind, replace(city, network=target), network, messages)


def _convert(kind: str, source: Path, target: Path, *, walking: bool) -> tuple[Finding, ...]:
    match kind:
        case "osm":
            return convert_osm(source, target, walking=walking)
        case "pbf":
            return convert_pbf(source, target, walking=walking)
        case "opendrive":
            return convert_opendrive(source, target)
        case _:
            with open_maybe_gzip(source) as plain, gzip.GzipFile(target, "wb", mtime=0) as packed:
                shutil.copyfileobj(plain, packed)
            return ()


def _read(city: CityFolder) -> Network:
    network = load_network(city)
    if not (network.edges.lane_count > 0).any():
        raise NetworkError(f"{city.network}: holds no road that motor vehicles may use")
    return network


def _describe(kind: str, city: CityFolder, network: Network, messages: tuple[Finding, ...]) -> ImportReport:
    findings = tuple(by_severity([*_located(messages, network), *find_defects(network)]))
    files: tuple[Path, ...] = (write_city(city, city.folder), *write_findings(findings, network, city.folder))
    if city.network.is_relative_to(city.folder.resolve()):
        files = (city.network, *files)
    return ImportReport(kind, city, network, findings, files)


def _located(messages: Sequence[Finding], network: Network) -> list[Finding]:
    """Messages whose subject is a known junction, edge or signal get its place."""
    placed = []
    for message in messages:
        xy = np.full(2, np.nan)
        if message.subject in network.node_index:
            xy = network.node_xy[network.node_index[message.subject]]
        elif message.subject in network.edge_index:
            flat = network.edges.shape_xy[network.edge_index[message.subject]].reshape(-1, 2)
            xy = flat[len(flat) // 2]
        elif message.subject in network.signal_index:
            nodes = network.signals[network.signal_index[message.subject]].nodes
            xy = network.node_xy[list(nodes)].mean(axis=0) if nodes else xy
        placed.append(replace(message, x_m=float(xy[0]), y_m=float(xy[1])))
    return placed
