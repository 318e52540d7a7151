"""Layout -> SUMO network, through netconvert."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from pathlib import Path

import pyproj

from networks.graph import Programme
from networks.netconvert import run_netconvert
from scenarios.zone.layout import BIKE, WALK, Edge, Layout
from scenarios.zone.parameters import ZoneParameters

PROJECTION = "+proj=utm +zone=50 +datum=WGS84 +units=m +no_defs"


def convert(layout: Layout, p: ZoneParameters, folder: Path) -> Path:
    """Write the plain XML files of the layout into `folder` and let netconvert join them; returns the raw net."""
    _write(folder / "zone.nod.xml", _nodes(layout, p))
    _write(folder / "zone.edg.xml", _edges(layout, p))
    _write(folder / "zone.con.xml", _connections(layout, p))
    net = folder / "raw.net.xml"
    arguments = [
        *("-n", str(folder / "zone.nod.xml")),
        *("-e", str(folder / "zone.edg.xml")),
        *("-x", str(folder / "zone.con.xml")),
        *("-o", str(net)),
        *("--no-turnarounds", "true"),
        *("--junctions.corner-detail", "5"),
        *("--default.junctions.radius", "9"),
    ]
    run_netconvert("the drawn zone", arguments)
    return net


def install_programmes(net: Path, programmes: Mapping[str, Programme]) -> str:
    """The text of `net` with its guessed programmes replaced by ours, and without netconvert's dated comments."""
    text = re.sub(r"<!--.*?-->\s*", "", net.read_text(encoding="utf-8"), flags=re.DOTALL)

    def ours(match: re.Match[str]) -> str:
        return _programme_xml(match.group(1), programmes[match.group(1)])

    return re.sub(r'    <tlLogic id="([^"]+)".*?</tlLogic>\n', ours, text, flags=re.DOTALL)


def _programme_xml(signal: str, programme: Programme) -> str:
    rows = [f'    <tlLogic id="{signal}" type="static" programID="{programme.id}" offset="{programme.offset_s:g}">\n']
    for phase in programme.phases:
        limits = (
            ""
            if "y" in phase.state or phase.max_s <= phase.min_s
            else (f' minDur="{phase.min_s:g}" maxDur="{phase.max_s:g}"')
        )
        rows.append(f'        <phase duration="{phase.duration_s:g}" state="{phase.state}"{limits}/>\n')
    rows.append("    </tlLogic>\n")
    return "".join(rows)


def _nodes(layout: Layout, p: ZoneParameters) -> ET.Element:
    root = ET.Element("nodes")
    east, north = pyproj.Transformer.from_crs("EPSG:4326", PROJECTION, always_xy=True).transform(
        p.origin_lon, p.origin_lat
    )
    xs, ys = [n.x_m for n in layout.nodes.values()], [n.y_m for n in layout.nodes.values()]
    ET.SubElement(
        root,
        "location",
        netOffset=f"{-east:.2f},{-north:.2f}",
        convBoundary=f"{min(xs):.2f},{min(ys):.2f},{max(xs):.2f},{max(ys):.2f}",
        origBoundary=f"{min(xs) + east:.2f},{min(ys) + north:.2f},{max(xs) + east:.2f},{max(ys) + north:.2f}",
        projParameter=PROJECTION,
    )
    kinds = {"signal": "traffic_light_right_on_red", "priority": "priority", "dead_end": "dead_end"}
    for node in layout.nodes.values():
        ET.SubElement(root, "node", id=node.id, x=f"{node.x_m:.2f}", y=f"{node.y_m:.2f}", type=kinds[node.kind])
    return root


def _edges(layout: Layout, p: ZoneParameters) -> ET.Element:
    root = ET.Element("edges")
    for edge in layout.edges.values():
        element = ET.SubElement(
            root,
            "edge",
            {"id": edge.id, "from": edge.start, "to": edge.end, "priority": str(edge.street.priority)}
            | ({"name": edge.street.name} if edge.street.name else {})
            | {"numLanes": str(_lane_total(edge)), "speed": f"{edge.street.speed_mps:.2f}"},
        )
        ET.SubElement(element, "lane", index=str(WALK), allow="pedestrian", width=f"{p.sidewalk_width_m}")
        for i in range(1, _lane_total(edge)):
            if i == BIKE and edge.street.kind != "driveway":
                ET.SubElement(element, "lane", index=str(i), allow="bicycle", width=f"{p.bike_lane_width_m}")
            else:
                barred = "pedestrian" if edge.street.kind == "driveway" else "pedestrian bicycle"
                ET.SubElement(element, "lane", index=str(i), disallow=barred, width=f"{p.lane_width_m}")
    return root


def _lane_total(edge: Edge) -> int:
    return edge.lanes + (1 if edge.street.kind == "driveway" else 2)


def _connections(layout: Layout, p: ZoneParameters) -> ET.Element:
    root = ET.Element("connections")
    for link in layout.links:
        ET.SubElement(
            root,
            "connection",
            {"from": link.start, "to": link.end, "fromLane": str(link.from_lane), "toLane": str(link.to_lane)},
        )
    for node, edges in layout.crossings:
        ET.SubElement(
            root, "crossing", node=node, edges=" ".join(edges), priority="true", width=f"{p.crossing_width_m}"
        )
    return root


def _write(path: Path, root: ET.Element) -> None:
    ET.indent(root)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
