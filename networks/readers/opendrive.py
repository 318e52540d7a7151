"""OpenDRIVE roads (.xodr, .xodr.gz) -> SUMO network file, with the defects that netconvert stumbles over repaired."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from tempfile import TemporaryDirectory

from networks.errors import NetworkError
from networks.findings import Finding
from networks.netconvert import path_argument, run_netconvert
from networks.readers.formats import open_maybe_gzip


def convert_opendrive(source: Path, target: Path) -> tuple[Finding, ...]:
    """Write the SUMO network of an OpenDRIVE file.

    The file's own projection is kept: its coordinates are metres already. Raises NetworkError naming the defect.
    """
    try:
        with open_maybe_gzip(source) as stream:
            tree = ET.parse(stream)
    except ET.ParseError as defect:
        raise NetworkError(f"{source}: not whole as XML: {defect}") from defect
    root = tree.getroot()
    if not root.findall("road"):
        raise NetworkError(f"{source}: holds no <road>")
    _repair_reference(root)
    findings = [*_repair_signals(root), *_repair_junctions(root)]
    with TemporaryDirectory(prefix="citytwin-") as folder:
        repaired = Path(folder) / "roads.xodr"
        tree.write(repaired, encoding="utf-8", xml_declaration=True)
        arguments = ["--opendrive-files", path_argument(repaired), "--output-file", path_argument(target)]
        findings += run_netconvert(str(source), arguments)
    return tuple(findings)


def _repair_reference(root: ET.Element) -> None:
    """Keep the horizontal projection only: heights are not needed and their grids are rarely installed."""
    reference = root.find("header/geoReference")
    if reference is not None:
        plain = re.sub(r"\+(geoidgrids|vunits|nadgrids)=\S+", "", reference.text or "")
        reference.text = " ".join(plain.split())


def _repair_signals(root: ET.Element) -> list[Finding]:
    """A signal without a type is a sign of no known meaning; OpenDRIVE writes that as -1."""
    findings = []
    for road in root.findall("road"):
        for signal in road.findall("signals/signal"):
            for name in ("type", "subtype"):
                if signal.get(name) == "":
                    signal.set(name, "-1")
                    if name == "type":
                        text = (
                            f"signal {signal.get('id')} of road {road.get('id')} has an empty type; read as unknown"
                        )
                        findings.append(Finding("opendrive_signal", "note", str(signal.get("id")), text))
    return findings


def _repair_junctions(root: ET.Element) -> list[Finding]:
    """Leave out connections without a connecting road (direct junctions of OpenDRIVE 1.7): netconvert knows none."""
    findings = []
    for junction in root.findall("junction"):
        for connection in junction.findall("connection"):
            if connection.get("connectingRoad") is None:
                junction.remove(connection)
                incoming, linked = connection.get("incomingRoad"), connection.get("linkedRoad", "?")
                name = str(junction.get("id"))
                text = f"junction {name}: the direct connection of road {incoming} to {linked} is lost in the import"
                findings.append(Finding("lost_connection", "error", name, text))
    return findings
