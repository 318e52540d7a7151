"""Results of runs kept line by line, so that a comparison cut short goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from networks.errors import InputError
from scenarios.side_by_side import Job, Result, ScenarioFiles

FORMAT = 1  # of a row, and of what is measured; counts up when either changes


class RunLedger:
    """A JSONL file with one result a line. A line torn by a crash is left out, and its run done again."""

    def __init__(self, path: Path) -> None:
        """Raises InputError when the file holds something else, OSError where it cannot be read."""
        self._path = path
        self._kept: dict[str, Result] = {}
        text = path.read_bytes() if path.exists() else b""
        self._whole_bytes = text.rfind(b"\n") + 1
        for number, line in enumerate(text[: self._whole_bytes].splitlines(), 1):
            try:
                row = json.loads(line)
                said = row["result"]
                self._kept[row["key"]] = Result(**{**said, "examples": tuple(said["examples"])})
            except (ValueError, TypeError, KeyError) as defect:
                raise InputError(f"{path}: line {number} is no result of a run") from defect

    def find(self, key: str) -> Result | None:
        return self._kept.get(key)

    def add(self, key: str, result: Result) -> None:
        """Keep a result; it is on the disk when this returns."""
        self._kept[key] = result
        row = json.dumps({"key": key, "result": asdict(result)}).encode() + b"\n"
        with self._path.open("ab") as file:
            file.truncate(self._whole_bytes)
            file.write(row)
        self._whole_bytes += len(row)


def run_keys(scenario: ScenarioFiles, jobs: Sequence[Job]) -> list[str]:
    """A fingerprint of all that decides over each run. Raises OSError for a file that cannot be read."""
    facts = (FORMAT, version("citytwin"), version("libsumo"), scenario.begin_s, scenario.end_s, len(scenario.routes))
    digests = [_digest(path) for path in (scenario.network, *scenario.routes, *scenario.additional)]
    plans = {side.plan: _digest(side.plan) for side, _ in jobs if side.plan is not None}
    keys = []
    for side, seed in jobs:
        own = (side.name, side.settings, side.actuated, plans.get(side.plan) if side.plan else None, seed)
        keys.append(hashlib.sha256(repr((facts, digests, own)).encode()).hexdigest()[:24])
    return keys


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
