"""The city as shipped, under SUMO's actuated control, and under citytwin: same demand, drivers and seeds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scenarios.measures import TripSummary
from scenarios.rivals import run_rival
from scenarios.street_terms import StreetOptions
from twin.app import CityModel
from twin.forecast_table import pool
from twin.live import LiveResult, Watcher, run_live
from twin.loop import Pace

Control = Literal["shipped", "actuated", "citytwin"]
RIVALS: tuple[Literal["shipped", "actuated"], ...] = ("shipped", "actuated")

Told = Callable[[str, int, str], None]  # control, seed, "begin" | "end"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of one comparison."""

    city: str
    seeds: tuple[int, ...]
    duration_s: float
    runs: dict[Control, tuple[TripSummary, ...]]  # in order of the seeds
    live: tuple[LiveResult, ...]
    wall_s: float

    @property
    def beats_all(self) -> bool:
        """citytwin's mean delay is the lowest and nothing unsafe was seen at the lamps."""
        mean = {control: statistics.fmean(r.mean_delay_s for r in runs) for control, runs in self.runs.items()}
        return self.safety_violations == 0 and all(mean["citytwin"] < mean[c] for c in RIVALS)

    @property
    def safety_violations(self) -> int:
        return sum(r.summary.safety_violations for r in self.live)


def compare(
    model: CityModel,
    *,
    seeds: Sequence[int],
    duration_s: float,
    pace: Pace,
    store: Path | None,
    speed: float = 0.0,
    watch: Watcher | None = None,
    record: Path | None = None,
    told: Told = lambda *_: None,
) -> Comparison:
    """Run every control on every seed: first the live loop, seed after seed, then the rivals side by side."""
    begun = time.monotonic()
    options = {
        seed: StreetOptions(seed=seed, duration_s=duration_s, coverage=model.folder.coverage) for seed in seeds
    }
    live: list[LiveResult] = []
    for seed in seeds:
        told("citytwin", seed, "begin")
        folder = store / f"seed{seed}" if store is not None else None
        log = record / f"seed{seed}" if record is not None else None
        live.append(run_live(model, options[seed], pace, store=folder, speed=speed, watch=watch, record=log))
        told("citytwin", seed, "end")

    def rival(job: tuple[Literal["shipped", "actuated"], int]) -> TripSummary:
        control, seed = job
        told(control, seed, "begin")
        summary = run_rival(model.folder, control, options[seed])
        told(control, seed, "end")
        return summary

    jobs = [(control, seed) for control in RIVALS for seed in seeds]
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        summaries = list(pool.map(rival, jobs))
    runs: dict[Control, tuple[TripSummary, ...]] = {
        control: tuple(summaries[i * len(seeds) : (i + 1) * len(seeds)]) for i, control in enumerate(RIVALS)
    }
    runs["citytwin"] = tuple(r.summary for r in live)
    return Comparison(model.folder.name, tuple(seeds), duration_s, runs, tuple(live), time.monotonic() - begun)


def to_document(comparison: Comparison) -> dict[str, Any]:
    """The comparison as one JSON document."""
    cycles = np.concatenate([np.array(r.cycle_ms) for r in comparison.live])
    errors = [r.error for r in comparison.live]
    return {
        "city": comparison.city,
        "seeds": list(comparison.seeds),
        "duration_s": comparison.duration_s,
        "rows": [_row(control, runs) for control, runs in comparison.runs.items()],
        "twin_error": {
            "flow_geh_lt5_share": round(statistics.fmean(e.flow_geh_lt5_share for e in errors), 4),
            "speed_rmse_mps": round(statistics.fmean(e.speed_rmse_mps for e in errors), 3),
            "queue_mae_veh": round(statistics.fmean(e.queue_mae_veh for e in errors), 3),
        },
        "cycle_ms": {
            "p50": round(float(np.percentile(cycles, 50)), 1),
            "p99": round(float(np.percentile(cycles, 99)), 1),
        },
        "forecast": pool([r.forecast for r in comparison.live]),
        "safety_violations": comparison.safety_violations,
        "violation_examples": [e for r in comparison.live for e in r.summary.violation_examples],
        "plans": sum(r.plans for r in comparison.live),
        "plans_refused": sum(r.refused_by_safety + r.refused_by_street for r in comparison.live),
        "fallbacks": _add(r.failures for r in comparison.live),
        "quarantined": _add(r.quarantined for r in comparison.live),
        "notes": [note for r in comparison.live for note in r.notes],
        "wall_s": round(comparison.wall_s, 1),
    }


def _row(control: str, runs: Sequence[TripSummary]) -> dict[str, Any]:
    delays = [r.mean_delay_s for r in runs]
    return {
        "control": control,
        "mean_delay_s": round(statistics.fmean(delays), 2),
        "sd_s": round(statistics.stdev(delays), 2) if len(delays) > 1 else 0.0,
        "per_seed": [round(d, 2) for d in delays],
        "vehicles": sum(r.vehicles for r in runs),
        "arrived": sum(r.arrived for r in runs),
        "running": sum(r.running for r in runs),
        "never_inserted": sum(r.never_inserted for r in runs),
        "class_delay_s": {
            kind: round(statistics.fmean(r.class_delay_s[kind] for r in runs if kind in r.class_delay_s), 2)
            for kind in sorted({k for r in runs for k in r.class_delay_s})
        },
        "teleports": sum(r.teleports for r in runs),
        "collisions": sum(r.collisions for r in runs),
    }


def _add(counts: Any) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in counts:
        for key, value in each.items():
            total[key] = total.get(key, 0) + value
    return total
