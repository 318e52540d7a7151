"""Findings: each defect is found where it was put, and a sound network has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from networks.findings import SEVERITIES, Finding, by_severity, write_findings
from networks.readers.sumo import read_sumo
from networks.validate import find_defects

DrawNet = Callable[..., Path]
QUIET = {"dead_end", "no_georeference", "no_walking", "uneven_stop_lines"}


def kinds(net: Path) -> dict[str, Finding]:
    return {finding.kind: finding for finding in find_defects(read_sumo(net))}


def test_a_sound_crossroads_has_only_notes(crossroads: DrawNet) -> None:
    assert set(kinds(crossroads("traffic_light", "--no-turnarounds"))) <= QUIET


def test_two_arterials_without_signals(crossroads: DrawNet) -> None:
    found = kinds(crossroads("priority"))["unsignalised_arterials"]
    assert (found.subject, found.severity) == ("c", "warning")
    assert abs(found.x_m - 200.0) < 1
    assert abs(found.y_m - 200.0) < 1
    assert "unsignalised_arterials" not in kinds(crossroads("priority", lanes=1))
    assert "unsignalised_arterials" not in kinds(crossroads("priority", speed_mps=8.3))


def test_lane_drop_speed_step_and_speed(draw_net: DrawNet) -> None:
    nodes = {"a": (0, 0, "priority"), "b": (300, 0, "priority"), "c": (600, 0, "priority"), "d": (900, 0, "priority")}
    edges = {"ab": ("a", "b", 3, 40.0), "bc": ("b", "c", 2, 13.9), "cd": ("c", "d", 2, 2.0)}
    found = kinds(draw_net(nodes, edges))
    assert found["lane_drop"].subject.startswith("ab_")
    assert found["speed_step"].subject in {"ab", "bc"}
    assert found["implausible_speed"].subject in {"ab", "cd"}
    assert found["dead_end"].subject == "cd"


def test_unconnected_and_trapped_edges(draw_net: DrawNet) -> None:
    nodes = {k: (x, y, "priority") for k, x, y in (("a", 0, 0), ("b", 200, 0), ("c", 400, 0), ("d", 200, 200))}
    edges = {"ab": ("a", "b", 1, 13.9), "bc": ("b", "c", 1, 13.9), "db": ("d", "b", 1, 13.9)}
    found = kinds(draw_net(nodes, edges, connections='<connection from="db"/><delete from="db" to="bc"/>'))
    assert found["unconnected_edge"].subject == "db"
    assert found["trapped_edge"].subject == "db"


def test_sidewalks_without_a_crossing(crossroads: DrawNet) -> None:
    walks = ("--sidewalks.guess", "--sidewalks.guess.max-speed", "30")
    assert kinds(crossroads("traffic_light", *walks))["missing_crossing"].subject == "c"
    crossings = ("--crossings.guess", "--crossings.guess.speed-threshold", "30")
    assert "missing_crossing" not in kinds(crossroads("traffic_light", *walks, *crossings))


def edit(net: Path, pattern: str, replacement: str) -> Path:
    text = net.read_text()
    changed = re.sub(pattern, replacement, text, count=1)
    assert changed != text
    net.write_text(changed)
    return net


def first_states(net: Path) -> list[str]:
    return re.findall(r'<phase[^>]*state="([^"]+)"', net.read_text())


def test_broken_programmes(crossroads: DrawNet) -> None:
    net = crossroads("traffic_light", "--no-turnarounds")
    states = first_states(net)
    yellow = next(s for s in states if "y" in s)
    net = edit(net, f'state="{yellow}"', f'state="{yellow.replace("y", "r")}"')
    assert "missing_yellow" in kinds(net)
    net = crossroads("traffic_light", "--no-turnarounds")
    net = edit(net, f'state="{states[0]}"', f'state="{"G" * len(states[0])}"')
    assert "unsafe_green" in kinds(net)
    net = crossroads("traffic_light", "--no-turnarounds")
    net.write_text(re.sub(r'state="([a-zA-Z])', 'state="r', net.read_text()))
    assert kinds(net)["never_green"].text.startswith("links 0")
    net = crossroads("traffic_light", "--no-turnarounds")
    net.write_text(re.sub(r'(<phase[^>]*state="[a-zA-Z]+)"', r'\1r"', net.read_text()))
    assert "lamp_without_link" in kinds(net)
    net = crossroads("traffic_light", "--no-turnarounds")
    net = edit(net, r'<phase duration="\d+"(\s+state="[a-zA-Z]*y)', r'<phase duration="1"\1')
    assert "short_intergreen" in kinds(net)


def test_movement_without_lamp(crossroads: DrawNet) -> None:
    net = crossroads("traffic_light", "--no-turnarounds")
    net = edit(net, r'(<connection from="nc"[^>]*) tl="c" linkIndex="\d+"', r"\1")
    assert kinds(net)["link_without_lamp"].subject.startswith("nc_")


def test_order_and_files(tmp_path: Path, crossroads: DrawNet) -> None:
    network = read_sumo(crossroads("priority"))
    findings = [Finding("b", "note", "x", "n"), Finding("a", "error", "y", "e"), Finding("c", "warning", "z", "w")]
    assert [f.severity for f in by_severity(findings)] == list(SEVERITIES)
    geojson, table = write_findings(findings, network, tmp_path)
    assert len(table.read_text().splitlines()) == 4
    assert '"geometry": null' in geojson.read_text()


@pytest.mark.parametrize("name", ["bologna_joined", "hamburg_tavf", "wildau", "beijing_chaoyangmen"])
def test_real_networks_are_mostly_sound(shared_data: Path, name: str) -> None:
    network = read_sumo(shared_data / "networks" / name / "net.net.xml.gz")
    found = find_defects(network)
    assert not [f for f in found if f.severity == "error"]
    lost = [f for f in found if f.kind in {"unreachable_edge", "trapped_edge", "unconnected_edge"}]
    assert len(lost) < 0.02 * len(network.edges.ids)
    west, south, east, north = network.bounds_m
    for f in found:
        assert not f.has_place or (west - 50 < f.x_m < east + 50 and south - 50 < f.y_m < north + 50)
