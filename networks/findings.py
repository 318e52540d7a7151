"""Findings: what is odd about a network, told as data, and written as GeoJSON and as a table."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from networks.coordinates import to_wgs84
from networks.graph import Network

SEVERITIES = ("error", "warning", "note")  # most severe first


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an engineer should look at."""

    kind: str  # stable key, e.g. "lane_drop"
    severity: (
        str  # one of SEVERITIES: error, simulation or control will be wrong; warning, likely; note, for knowledge
    )
    subject: str  # id of the edge, lane, junction or signal; "" for the whole network
    text: str
    x_m: float = math.nan  # local metres, NaN where it has no place
    y_m: float = math.nan
    count: int = 1  # equal findings told as one

    @property
    def has_place(self) -> bool:
        return math.isfinite(self.x_m) and math.isfinite(self.y_m)


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Most severe first, then by kind and subject."""
    return sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), f.kind, f.subject))


def write_findings(findings: Sequence[Finding], network: Network, folder: Path) -> tuple[Path, Path]:
    """Write findings.geojson (WGS-84; no geometry where a finding or the network has no place) and findings.csv."""
    geojson, table = folder / "findings.geojson", folder / "findings.csv"
    rows = by_severity(findings)
    features = [_feature(finding, network) for finding in rows]
    document = {"type": "FeatureCollection", "features": features}
    geojson.write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    with table.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["severity", "kind", "subject", "count", "x_m", "y_m", "text"])
        for f in rows:
            place = (f"{f.x_m:.2f}", f"{f.y_m:.2f}") if f.has_place else ("", "")
            writer.writerow([f.severity, f.kind, f.subject, f.count, *place, f.text])
    return geojson, table


def _feature(finding: Finding, network: Network) -> dict[str, Any]:
    geometry = None
    if finding.has_place and network.projection is not None:
        lon, lat = to_wgs84(network, finding.x_m, finding.y_m)
        if math.isfinite(lon) and math.isfinite(lat):
            geometry = {"type": "Point", "coordinates": [round(float(lon), 7), round(float(lat), 7)]}
    properties = {
        "kind": finding.kind,
        "severity": finding.severity,
        "subject": finding.subject,
        "text": finding.text,
        "count": finding.count,
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}
