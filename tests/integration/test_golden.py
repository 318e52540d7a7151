"""One short run of everything but the mirror, held against what it was when last looked at.

Any change of demand, sensors, fusion, forecast, control or guidance shows here. When the change is meant, look at the
difference and refresh the file: `REFRESH_GOLDEN=1 python -m pytest tests/integration/test_golden.py`.
"""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

from networks.graph import Network
from scenarios.virtual_city import StreetOptions
from twin.app import CityModel
from twin.archive import Archive, open_store
from twin.live import run_live
from twin.loop import Pace

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "square_120s.json"


def test_two_minutes_of_the_square_are_as_they_were(
    model: CityModel, day: StreetOptions, patient: Pace, tmp_path: Path
):
    result = run_live(model, day, patient, store=tmp_path, mirrored=False)
    with open_store(tmp_path) as archive:
        found: dict[str, Any] = {
            "vehicles": result.summary.vehicles,
            "arrived": result.summary.arrived,
            "mean_delay_s": round(result.summary.mean_delay_s, 6),
            "frames": result.frames,
            "plans": result.plans,
            "refused": result.refused_by_safety + result.refused_by_street,
            "signals": lamps_by_signal(archive, model.network),
            "last_state": last_state(archive),
        }
    if "REFRESH_GOLDEN" in os.environ:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(GOLDEN.read_text())


def lamps_by_signal(archive: Archive, network: Network) -> dict[str, dict[str, Any]]:
    """Per signal how often its lamps changed, and a fingerprint of when to what."""
    shown: dict[str, list[tuple[float, str]]] = {signal.id: [] for signal in network.signals}
    for row in archive.query("select signal, state, measured_at_s from lamps order by measured_at_s").to_pylist():
        changes = shown[network.signals[row["signal"]].id]
        if not changes or changes[-1][1] != row["state"]:
            changes.append((row["measured_at_s"], row["state"]))
    return {
        name: {"changes": len(changes), "lamps": blake2b(repr(changes).encode(), digest_size=8).hexdigest()}
        for name, changes in shown.items()
    }


def last_state(archive: Archive) -> dict[str, float]:
    """Sums over the last fused state, to a hundredth."""
    (row,) = archive.query("select * from states order by cycle desc limit 1").to_pylist()
    return {name: round(sum(row[name]), 2) for name in ("edge_flow_vps", "lane_vehicles", "vehicle_certainty")}
