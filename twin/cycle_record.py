"""What one cycle leaves behind, and the tables it is written to.

Every table has the column `cycle`; a cycle is there when its row in `cycles` is. Reports are one row each; a state or
a forecast is one row with list columns on the network's dense indices, single precision. What a decision stood on is
kept exactly: plan, lamps, time and version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from networks.batches import Batches
from networks.state import Estimate, Forecast, NetworkState
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, LampStep, Proposal, SignalPlan
from twin.feeds.receipts import Receipt
from twin.quarantine import Refused


@dataclass(frozen=True, slots=True)
class CycleRecord:
    """One cycle, complete. A stage that failed leaves its field empty or None."""

    now_s: float
    batches: Batches
    state: NetworkState | None
    forecast: Forecast | None
    proposals: Sequence[Proposal]
    lamps: Sequence[LampRecord | None]  # per signal: what the plans were judged against
    approved: Sequence[ApprovedPlan]
    refused: Sequence[tuple[Proposal, Sequence[object]]]  # with the violations
    receipts: Sequence[Receipt] = ()
    quarantined: Sequence[Refused] = ()
    report: Mapping[str, Any] = field(default_factory=dict)  # JSON values


_I32, _I64, _F32, _F64 = pa.int32(), pa.int64(), pa.float32(), pa.float64()
_TEXT, _BOOL, _BYTES = pa.string(), pa.bool_(), pa.binary()


class Table(NamedTuple):
    """A table's columns after `cycle`, in order."""

    columns: Mapping[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        return pa.schema([("cycle", _I64), *self.columns.items()])


_TIMES = {"measured_at_s": _F64, "available_at_s": _F64}
_MOTION = {"x_m": _F64, "y_m": _F64, "speed_mps": _F64, "heading_rad": _F64, "kind": _I32}
_ESTIMATES = (
    "edge_flow_vps",
    "edge_speed_mps",
    "edge_density_vpm",
    "lane_queue_veh",
    "lane_vehicles",
    "movement_share",
)
_ESTIMATE_PARTS = {"": _F32, "_variance": _F32, "_age_s": _F32, "_valid": _BOOL}
_VEHICLES: Mapping[str, pa.DataType] = {
    "id": _I64,
    "lane": _I32,
    "position_m": _F32,
    "speed_mps": _F32,
    "kind": _I32,
    "movement": _I32,
    "equipped": _BOOL,
    "destination_edge": _I32,
    "certainty": _F32,
    "age_s": _F32,
}
_LAMPS_THEN = {
    "lamps_at_s": _F64,  # null: nothing was known of the lamps
    "lamps_state": _TEXT,
    "lamps_since_s": pa.list_(_F64),
    "lamps_green_from_s": pa.list_(_F64),
    "lamps_green_until_s": pa.list_(_F64),
}
_WORTH = {"cost_veh_s": _F64, "next_best_veh_s": _F64, "served_veh": _F64, "priority": _I32}

TABLES: Mapping[str, Table] = {
    "cycles": Table({"now_s": _F64, "report": _TEXT}),
    "counts": Table(
        {"detector": _I32, "count": _I32, "occupancy": _F64, "speed_mps": _F64, "interval_s": _F64, **_TIMES}
    ),
    "tracks": Table({"unit": _I32, "object_id": _I64, **_MOTION, **_TIMES}),
    "probes": Table({"vehicle": _I64, **_MOTION, "destination_edge": _I32, **_TIMES}),
    "lamps": Table({"signal": _I32, "state": _TEXT, "plan_version": _I64, **_TIMES}),
    "notices": Table(
        {
            "id": _TEXT,
            "edge": _I32,
            "lanes": pa.list_(_I32),
            "speed_limit_mps": _F64,
            "begin_s": _F64,
            "end_s": _F64,
            "available_at_s": _F64,
        }
    ),
    "warnings": Table(
        {"id": _TEXT, "event": _TEXT, "severity": _TEXT, "begin_s": _F64, "end_s": _F64, "available_at_s": _F64}
    ),
    "weather": Table(
        {
            "rain_mm_h": _F64,
            "visibility_m": _F64,
            "temperature_c": _F64,
            "wind_mps": _F64,
            "forecast_from_s": _F64,
            "forecast_until_s": _F64,
            **_TIMES,
        }
    ),
    "states": Table(
        {
            "now_s": _F64,
            "coverage": _F64,
            "unhealthy": pa.list_(_TEXT),
            **{name + part: pa.list_(kind) for name in _ESTIMATES for part, kind in _ESTIMATE_PARTS.items()},
            **{f"vehicle_{name}": pa.list_(kind) for name, kind in _VEHICLES.items()},
        }
    ),
    "forecasts": Table(
        {
            "made_at_s": _F64,
            "horizon_s": pa.list_(_F64),
            "quantiles": pa.list_(_F64),
            "flow_vps": pa.list_(_F32),  # (H, E, Q) flat
            "speed_mps": pa.list_(_F32),  # (H, E, Q) flat
            "congestion": pa.list_(_F32),  # (H, E, 4) flat
            "valid": pa.list_(_BOOL),
            "producer": pa.list_(_TEXT),
        }
    ),
    "proposals": Table({"signal": _I32, "junction": _TEXT, "source": _TEXT, **_WORTH, "plan": _TEXT}),
    "decisions": Table(
        {
            "signal": _I32,
            "junction": _TEXT,
            "version": _I64,
            "approved_at_s": _F64,
            "proof": _TEXT,
            **_WORTH,
            "plan": _TEXT,
            **_LAMPS_THEN,
        }
    ),
    "refusals": Table(
        {
            "signal": _I32,
            "junction": _TEXT,
            "judged_at_s": _F64,
            "violations": pa.list_(_TEXT),
            **_WORTH,
            "plan": _TEXT,
            **_LAMPS_THEN,
        }
    ),
    "receipts": Table({"signal": _I32, "plan_version": _I64, "accepted": _BOOL, "reason": _TEXT, **_TIMES}),
    "quarantine": Table(
        {"at_s": _F64, "feed": _TEXT, "source": _TEXT, "reason": _TEXT, "detail": _TEXT, "payload": _BYTES}
    ),
}


def to_tables(cycle: int, record: CycleRecord, *, with_forecast: bool = True) -> dict[str, pa.Table]:
    """The rows of one cycle, by table; tables without rows are left out."""
    batches = record.batches
    columns: dict[str, Mapping[str, Any]] = {
        "cycles": {"now_s": [record.now_s], "report": [json.dumps(record.report, default=str)]},
        "counts": _columns_of(batches.counts),
        "tracks": _columns_of(batches.tracks),
        "probes": _columns_of(batches.probes),
        "lamps": _columns_of(batches.signals),
        "notices": _transpose(batches.notices),
        "warnings": _transpose(batches.warnings),
        "weather": _columns_of(batches.weather),
        "receipts": _transpose(record.receipts),
        "quarantine": _transpose(record.quarantined),
        "proposals": _stack([_proposal_row(p) for p in record.proposals]),
        "decisions": _stack([_decision_row(a, record) for a in record.approved]),
        "refusals": _stack([_refusal_row(p, v, record) for p, v in record.refused]),
    }
    if record.state is not None:
        columns["states"] = _state_row(record.state)
    if record.forecast is not None and with_forecast:
        columns["forecasts"] = _forecast_row(record.forecast)
    tables: dict[str, pa.Table] = {}
    for name, values in columns.items():
        schema = TABLES[name].schema
        rows = len(next(iter(values.values()))) if values else 0
        if rows:
            arrays = [_array(values[column.name], column.type) for column in list(schema)[1:]]
            tables[name] = pa.Table.from_arrays([pa.array(np.full(rows, cycle)), *arrays], schema=schema)
    return tables


def plan_to_text(plan: SignalPlan) -> str:
    """A plan as JSON, exact to the last bit. Its inverse is `plan_from_text`."""
    values = {f.name: getattr(plan, f.name) for f in fields(plan)}
    values["steps"] = [(step.state, step.duration_s) for step in plan.steps]
    return json.dumps(values, default=np.generic.item)


def plan_from_text(text: str) -> SignalPlan:
    values = json.loads(text)
    values["steps"] = tuple(LampStep(state, duration_s) for state, duration_s in values["steps"])
    return SignalPlan(**values)


def _columns_of(batch: Any) -> dict[str, Any]:
    return {f.name: getattr(batch, f.name) for f in fields(batch)}


def _transpose(rows: Sequence[Any]) -> dict[str, Any]:
    return {name: [getattr(row, name) for row in rows] for name in rows[0]._fields} if rows else {}


def _stack(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: [row[name] for row in rows] for name in rows[0]} if rows else {}


def _array(values: Any, kind: pa.DataType) -> pa.Array:
    """A column; a list column of one row of numbers is wrapped without copying it value by value."""
    if isinstance(kind, pa.ListType) and len(values) == 1 and isinstance(values[0], np.ndarray):
        flat = pa.array(np.ravel(values[0]), type=kind.value_type, safe=False)
        return pa.ListArray.from_arrays(pa.array([0, len(flat)], pa.int32()), flat)
    return pa.array(values, type=kind)


def _state_row(state: NetworkState) -> dict[str, Any]:
    row: dict[str, Any] = {
        "now_s": [state.now_s],
        "coverage": [state.coverage],
        "unhealthy": [list(state.unhealthy)],
    }
    for name in _ESTIMATES:
        estimate: Estimate = getattr(state, name)
        parts = (estimate.value, estimate.variance, estimate.age_s, estimate.valid)
        for part, values in zip(_ESTIMATE_PARTS, parts, strict=True):
            row[name + part] = [_single(values)]
    for name in _VEHICLES:
        row[f"vehicle_{name}"] = [_single(getattr(state.vehicles, name))]
    return row


def _forecast_row(forecast: Forecast) -> dict[str, Any]:
    return {
        "made_at_s": [forecast.made_at_s],
        "horizon_s": [forecast.horizon_s],
        "quantiles": [np.array(forecast.quantiles)],
        "flow_vps": [_single(forecast.flow_vps)],
        "speed_mps": [_single(forecast.speed_mps)],
        "congestion": [_single(forecast.congestion)],
        "valid": [forecast.valid],
        "producer": [list(forecast.producer)],
    }


def _single(values: NDArray[Any]) -> NDArray[Any]:
    """Doubles as singles; anything too large for one becomes infinite."""
    if values.dtype != np.float64:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _proposal_row(proposal: Proposal) -> dict[str, Any]:
    return {
        "signal": proposal.plan.signal,
        "junction": proposal.plan.signal_id,
        "source": proposal.plan.source,
        **_worth(proposal),
        "plan": plan_to_text(proposal.plan),
    }


def _worth(proposal: Proposal | None) -> dict[str, Any]:
    if proposal is None:
        return {"cost_veh_s": math.nan, "next_best_veh_s": math.nan, "served_veh": math.nan, "priority": 0}
    return {name: getattr(proposal, name) for name in _WORTH}


def _decision_row(approved: ApprovedPlan, record: CycleRecord) -> dict[str, Any]:
    plan = approved.plan
    return {
        "signal": plan.signal,
        "junction": plan.signal_id,
        "version": approved.version,
        "approved_at_s": approved.approved_at_s,
        "proof": approved.proof,
        **_worth(next((p for p in record.proposals if p.plan is plan or p.plan == plan), None)),
        "plan": plan_to_text(plan),
        **_lamps_row(plan.signal, record),
    }


def _refusal_row(proposal: Proposal, violations: Sequence[object], record: CycleRecord) -> dict[str, Any]:
    return {
        "signal": proposal.plan.signal,
        "junction": proposal.plan.signal_id,
        "judged_at_s": record.now_s,
        "violations": [str(violation) for violation in violations],
        **_worth(proposal),
        "plan": plan_to_text(proposal.plan),
        **_lamps_row(proposal.plan.signal, record),
    }


def _lamps_row(signal: int, record: CycleRecord) -> dict[str, Any]:
    lamps = record.lamps[signal] if 0 <= signal < len(record.lamps) else None
    if lamps is None:
        return dict.fromkeys(_LAMPS_THEN)
    return {
        "lamps_at_s": lamps.at_s,
        "lamps_state": lamps.state,
        "lamps_since_s": lamps.since_s,
        "lamps_green_from_s": lamps.green_from_s,
        "lamps_green_until_s": lamps.green_until_s,
    }
