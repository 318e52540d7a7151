"""Our own JSON document of plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from networks.errors import InputError
from signals.formats.fields import index_of
from signals.plan import LampStep, SignalPlan


class StepDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    state: str = Field(pattern=r"^[rRgGyYuUosO]+$", max_length=512)
    duration_s: float = Field(gt=0, lt=1e6, allow_inf_nan=False)


class PlanDocument(BaseModel):
    """One plan. `valid_until_s` null: until withdrawn."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    signal: str
    repeats: bool
    offset_s: float = Field(allow_inf_nan=False)
    valid_from_s: float = Field(allow_inf_nan=False)
    valid_until_s: float | None = Field(allow_inf_nan=False)
    steps: tuple[StepDocument, ...] = Field(min_length=1)
    source: str = ""
    reason: str = ""


class PlansDocument(BaseModel):
    """The whole file; `PlansDocument.model_json_schema()` is its schema."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: Literal["citytwin.signal-plans"] = "citytwin.signal-plans"
    version: Literal[1] = 1
    plans: tuple[PlanDocument, ...]


def to_json(plans: Sequence[SignalPlan]) -> str:
    document = PlansDocument(
        plans=tuple(
            PlanDocument(
                signal=plan.signal_id,
                repeats=plan.repeats,
                offset_s=plan.offset_s,
                valid_from_s=plan.valid_from_s,
                valid_until_s=plan.valid_until_s if math.isfinite(plan.valid_until_s) else None,
                steps=tuple(StepDocument(state=s.state, duration_s=s.duration_s) for s in plan.steps),
                source=plan.source,
                reason=plan.reason,
            )
            for plan in plans
        )
    )
    return document.model_dump_json(indent=1)


def from_json(text: str | bytes, signal_index: Mapping[str, int]) -> tuple[SignalPlan, ...]:
    """Plans of a document. Raises InputError naming the field, or a signal that the network does not have."""
    try:
        document = PlansDocument.model_validate_json(text)
    except ValidationError as defect:
        first = defect.errors()[0]
        raise InputError(f"signal plans: {'.'.join(map(str, first['loc']))}: {first['msg']}") from defect
    return tuple(
        SignalPlan(
            signal=index_of(p.signal, signal_index),
            signal_id=p.signal,
            steps=tuple(LampStep(s.state, s.duration_s) for s in p.steps),
            valid_from_s=p.valid_from_s,
            valid_until_s=math.inf if p.valid_until_s is None else p.valid_until_s,
            repeats=p.repeats,
            offset_s=p.offset_s,
            source=p.source,
            reason=p.reason,
        )
        for p in document.plans
    )
