"""The mirror's newest snapshot in a folder, from which another process can fork it: `citytwin branch FOLDER`.

Beside SUMO's state lies a note in JSON with what the demand correction had learnt. The note is written last and in
one move, so a note always has its state; the one before is kept for whoever is just loading it.
"""

from __future__ import annotations

import json
import pickle
import shutil
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from networks.city import CityFolder, Coverage
from networks.errors import InputError
from networks.graph import Network
from twin.mirror_demand import DemandCorrection
from twin.mirror_traffic import Tally
from twin.mirror_words import Snapshot

KEPT = 2
FORMAT = 1
_NOTES = "mirror_*.json"
_RATES = ("scheduled", "passing", "measured", "factor")


def keep(snapshot: Snapshot, city: CityFolder, network: Network, folder: Path) -> Path:
    """Copy a snapshot into `folder`; its note. Older ones than the one before are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"mirror_{round(snapshot.at_s):08d}"
    state = folder / f"{name}.xml.gz"
    shutil.copyfile(snapshot.file, state)
    (_, demand, weight, born, evidence_s), _ = pickle.loads(snapshot.memory)
    document = {
        "format": FORMAT,
        "at_s": snapshot.at_s,
        "seed": snapshot.seed,
        "state": state.name,
        "network": network.fingerprint,
        "city": _described(city),
        "lamps": snapshot.lamps,
        "demand": {rate: getattr(demand, rate).tolist() for rate in _RATES}
        | {"overall": demand.overall, "owed": {str(k): v for k, v in demand.owed.items()}},
        "weight": weight,
        "born": born,
        "evidence_s": [s if np.isfinite(s) else None for s in evidence_s.tolist()],
    }
    note = folder / f"{name}.json"
    fresh = note.with_suffix(".part")
    fresh.write_text(json.dumps(document), encoding="utf-8")
    fresh.replace(note)
    for old in sorted(folder.glob(_NOTES))[:-KEPT]:
        old.unlink(missing_ok=True)
        old.with_suffix(".xml.gz").unlink(missing_ok=True)
    return note


def find_kept(folder: Path) -> Path | None:
    """The newest note in a folder, or in its `mirror` folder, or in that of the newest run below it."""
    for pattern in (_NOTES, f"mirror/{_NOTES}", f"*/mirror/{_NOTES}"):
        found = list(folder.glob(pattern))
        if found:
            return max(found, key=lambda note: (note.stat().st_mtime, note.name))
    return None


def read_kept(note: Path) -> tuple[CityFolder, Snapshot, str]:
    """City, snapshot and the fingerprint of the network that it was taken on.

    Raises InputError naming the file and the field that cannot be used.
    """
    try:
        document = json.loads(note.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise InputError(f"{note}: format {document['format']!r} is not {FORMAT}")
        state = note.with_name(document["state"])
        if not state.is_file():
            raise InputError(f"{note}: state {document['state']!r} is not there")
        learnt = document["demand"]
        demand = DemandCorrection(
            **{rate: np.array(learnt[rate], np.float64) for rate in _RATES},
            overall=float(learnt["overall"]),
            owed=defaultdict(float, {int(k): float(v) for k, v in learnt["owed"].items()}),
        )
        evidence_s = np.array([-np.inf if s is None else s for s in document["evidence_s"]], np.float64)
        weight, born = document["weight"], {k: int(v) for k, v in document["born"].items()}
        memory = pickle.dumps(((Tally(), demand, weight, born, evidence_s), []))
        lamps = tuple(document["lamps"])
        snapshot = Snapshot(float(document["at_s"]), str(state), memory, lamps, int(document["seed"]))
        return _city(document["city"]), snapshot, str(document["network"])
    except (ValueError, KeyError, TypeError, AttributeError) as defect:
        raise InputError(f"{note}: not a snapshot of the mirror: {type(defect).__name__} {defect}") from None


def _described(city: CityFolder) -> dict[str, Any]:
    def shown(value: Any) -> Any:
        if isinstance(value, tuple):
            return [shown(one) for one in value]
        return str(value) if isinstance(value, Path) else value

    return {name: shown(value) for name, value in asdict(city).items() if name != "findings"}


def _coverage(loops: float | str, roadside: float | list[str], equipped: float) -> Coverage:
    return Coverage(
        Path(loops) if isinstance(loops, str) else loops,
        tuple(roadside) if isinstance(roadside, list) else roadside,
        equipped,
    )


def _city(fields: dict[str, Any]) -> CityFolder:
    city = CityFolder(
        name=fields["name"],
        folder=Path(fields["folder"]),
        network=Path(fields["network"]),
        routes=tuple(map(Path, fields["routes"])),
        additional=tuple(map(Path, fields["additional"])),
        programmes=tuple(map(Path, fields["programmes"])),
        begin_s=float(fields["begin_s"]),
        end_s=float(fields["end_s"]),
        epoch_s=float(fields["epoch_s"]),
        coverage=_coverage(**fields["coverage"]),
        plan=None if fields["plan"] is None else Path(fields["plan"]),
    )
    for path in city.files:
        if not path.is_file():
            raise InputError(f"city {city.name}: {path} is not there any more")
    return city
