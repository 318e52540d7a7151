"""How a run's forecasts turned out, as one document: errors on what the sensors saw later, per producer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from forecasting.gate import Verdict
from forecasting.live_gate import LiveModel
from forecasting.serve import Forecaster, ForecastScore
from networks.errors import InputError
from networks.graph import Floats

SHOWN_MIN = (5, 15, 30, 60)
_COUNT_S = 300.0  # flows are told as vehicles in five minutes


def forecast_rows(score: ForecastScore) -> list[dict[str, Any]]:
    """One row for each of the shown minutes ahead whose truth has been seen; errors are mean absolute ones."""
    rows = []
    for minutes in SHOWN_MIN:
        at = np.flatnonzero(np.isclose(score.horizon_s, 60.0 * minutes))
        if len(at) and score.truths[at[0]]:
            rows.append(_row(score, minutes, int(at[0])))
    return rows


def _row(score: ForecastScore, minutes: int, at: int) -> dict[str, Any]:
    def told(by: dict[str, Floats], served: Floats, unit: float) -> dict[str, float]:
        each = {name: round(float(error[at]) * unit, 4) for name, error in by.items()}
        return {"served": round(float(served[at]) * unit, 4), **each}

    return {
        "minutes": minutes,
        "truths": int(score.truths[at]),
        "flow_mae_veh": told(score.flow_mae_by_producer_vps, score.flow_mae_vps, _COUNT_S),
        "speed_mae_mps": told(score.speed_mae_by_producer_mps, score.speed_mae_mps, 1.0),
        "flow_lead": score.flow_lead[at],
        "speed_lead": score.speed_lead[at],
        "flow_coverage": _bands(score.flow_coverage.nominal, score.flow_coverage.measured[at]),
        "speed_coverage": _bands(score.speed_coverage.nominal, score.speed_coverage.measured[at]),
    }


def _bands(nominal: Sequence[float], measured: Floats) -> dict[str, float]:
    return {f"{n:.2f}": round(float(m), 3) for n, m in zip(nominal, measured, strict=True) if np.isfinite(m)}


def gate_rows(models: Sequence[LiveModel]) -> list[dict[str, Any]]:
    """What the gate said of each model, by quantity."""
    return [{"model": m.label, **{q: v.as_dict() for q, v in m.verdicts.items()}} for m in models]


def forecast_document(forecaster: Forecaster) -> dict[str, Any]:
    """Errors and the gate of one run."""
    return {"gate": gate_rows(forecaster.models), "rows": forecast_rows(forecaster.score())}


def pool(documents: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The documents of several runs as one, each error weighted by its number of truths."""
    found: dict[int, list[dict[str, Any]]] = {}
    for document in documents:
        for one in document["rows"]:
            found.setdefault(one["minutes"], []).append(one)
    rows = []
    for minutes, parts in sorted(found.items()):
        weight = np.array([part["truths"] for part in parts], np.float64)
        row: dict[str, Any] = {"minutes": minutes, "truths": int(weight.sum())}
        for key in ("flow_mae_veh", "speed_mae_mps", "flow_coverage", "speed_coverage"):
            names = [name for name in parts[0][key] if all(name in part[key] for part in parts)]
            row[key] = {
                name: round(float(np.average([part[key][name] for part in parts], weights=weight)), 4)
                for name in names
            }
        for key in ("flow_lead", "speed_lead"):
            row[key] = sorted({part[key] for part in parts})
        rows.append(row)
    return {
        "gate": documents[0]["gate"] if documents else [],
        "rows": rows,
        "notes": [document["notes"] for document in documents],
    }


def shadow_verdict(document: dict[str, Any], name: str) -> Verdict:
    """What a run's readings say of a candidate that ran in its shadow: better than ridge and profile in flow and in
    speed, on the mean over the minutes ahead, or why not.

    Raises InputError when the run did not score this candidate.
    """
    label = f"candidate {name}"
    rows = [row for row in document.get("rows", []) if label in row["flow_mae_veh"]]
    if not rows:
        raise InputError(f"forecast.rows: no readings of {label} in this run")
    mae, reasons = {}, []
    for key, unit in (("flow_mae_veh", "veh"), ("speed_mae_mps", "m/s")):
        own, *rivals = (float(np.mean([row[key][n] for row in rows])) for n in (label, "ridge", "profile"))
        mae[f"model, {unit}"] = own
        for rival, error in zip(("ridge", "profile"), rivals, strict=True):
            mae[f"{rival}, {unit}"] = error
            if own >= error:
                reasons.append(f"its error {own:.4g} {unit} is not below that of the {rival}, {error:.4g}")
    return Verdict(mae, {}, sum(row["truths"] for row in rows), tuple(reasons))
