"""Our own JSON document of plans; its schema is published as `plan.schema.json` beside this file.

It holds what no other format does: rolling plans, validity, and where a plan comes from. Times are epoch seconds; a
programme of a book is written for the epoch of its clock's second 0 and read back with the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from networks.errors import InputError
from networks.graph import Programme, ProgrammePhase
from signals.formats.book import NamedProgramme, PlanBook, Switch, TimedSignal, Timetable, Written
from signals.formats.fields import LONGEST_S, index_of, readable
from signals.plan import LampStep, SignalPlan

SCHEMA_FILE = Path(__file__).with_name("plan.schema.json")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StepDocument(_Strict):
    """One state of the lamps. `min_s` and `max_s` where a programme may shorten or stretch it."""

    state: str = Field(pattern=r"^[rRgGyYuUosO]+$", max_length=512)
    duration_s: float = Field(gt=0, lt=1e6)
    min_s: float | None = Field(default=None, ge=0, lt=1e6)
    max_s: float | None = Field(default=None, ge=0, lt=1e6)


class PlanDocument(_Strict):
    """One plan. `valid_until_s` null: until withdrawn."""

    signal: str
    repeats: bool
    offset_s: float
    valid_from_s: float
    valid_until_s: float | None
    steps: tuple[StepDocument, ...] = Field(min_length=1)
    programme: str = ""
    kind: str = "static"
    source: str = ""
    reason: str = ""


class SwitchDocument(_Strict):
    at_s: float
    programme: str


class TimedSignalDocument(_Strict):
    signal: str
    procedure: str = ""
    synchron: bool = False


class TimetableDocument(_Strict):
    """Which programme runs when; `at_s` counts from `reference_s`, again each `period_s` where that is not 0."""

    id: str
    start: str
    switches: tuple[SwitchDocument, ...]
    signals: tuple[TimedSignalDocument, ...]
    reference_s: float = 0.0
    period_s: float = Field(default=0.0, ge=0)


class PlansDocument(_Strict):
    """The whole file."""

    format: Literal["citytwin.signal-plans"] = "citytwin.signal-plans"
    version: Literal[1] = 1
    plans: tuple[PlanDocument, ...]
    timetables: tuple[TimetableDocument, ...] = ()


def plan_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the document."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **PlansDocument.model_json_schema()}


def to_json(plans: Sequence[SignalPlan]) -> str:
    return _dump(
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


def from_json(text: str | bytes, signal_index: Mapping[str, int]) -> tuple[SignalPlan, ...]:
    """Plans of a document. Raises InputError naming the field, or a signal that the network does not have."""
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
        for p in _parse(text, "signal plans").plans
    )


def book_to_json(book: PlanBook, *, epoch_of_zero_s: float = 0.0) -> Written:
    """A book as a document of endless cyclic plans. A programme without phases cannot be held."""
    off = [named for named in book.programmes if not named.programme.phases]
    plans = (
        PlanDocument(
            signal=named.signal_id,
            repeats=True,
            offset_s=epoch_of_zero_s + named.programme.offset_s,
            valid_from_s=epoch_of_zero_s,
            valid_until_s=None,
            steps=tuple(_step(phase) for phase in named.programme.phases),
            programme=named.programme.id,
            kind=named.programme.kind,
        )
        for named in book.programmes
        if named.programme.phases
    )
    timetables = tuple(
        TimetableDocument(
            id=t.id,
            start=t.start,
            switches=tuple(SwitchDocument(at_s=s.at_s, programme=s.programme) for s in t.switches),
            signals=tuple(
                TimedSignalDocument(signal=s.signal_id, procedure=s.procedure, synchron=s.synchron) for s in t.signals
            ),
            reference_s=t.reference_s,
            period_s=t.period_s,
        )
        for t in book.timetables
    )
    return Written(
        _dump(plans, timetables),
        tuple(f"programme {n.programme.id!r} of signal {n.signal_id!r}: it shows nothing" for n in off),
    )


def book_from_json(path: Path, *, epoch_of_zero_s: float = 0.0) -> PlanBook:
    """The cyclic plans of a document. Raises InputError naming file and field; for rolling plans use `from_json`."""
    with readable(path):
        document = _parse(path.read_bytes(), str(path))
    for n, plan in enumerate(document.plans):
        if not plan.repeats:
            raise InputError(f"{path}: plans.{n}.repeats: the plan of {plan.signal!r} runs once and is no programme")
    return PlanBook(
        tuple(
            NamedProgramme(
                p.signal,
                Programme(p.programme, p.kind, _offset_s(p, epoch_of_zero_s), tuple(_phase(s) for s in p.steps)),
            )
            for p in document.plans
        ),
        tuple(
            Timetable(
                t.id,
                t.start,
                tuple(Switch(s.at_s, s.programme) for s in t.switches),
                tuple(TimedSignal(s.signal, s.procedure, s.synchron) for s in t.signals),
                t.reference_s,
                t.period_s,
            )
            for t in document.timetables
        ),
    )


def _offset_s(plan: PlanDocument, epoch_of_zero_s: float) -> float:
    """As given, but counted from within a cycle of second 0 where it is an epoch of another clock."""
    offset_s = plan.offset_s - epoch_of_zero_s
    return offset_s if abs(offset_s) < LONGEST_S else offset_s % sum(step.duration_s for step in plan.steps)


def _step(phase: ProgrammePhase) -> StepDocument:
    if phase.min_s == phase.duration_s == phase.max_s:
        return StepDocument(state=phase.state, duration_s=phase.duration_s)
    return StepDocument(state=phase.state, duration_s=phase.duration_s, min_s=phase.min_s, max_s=phase.max_s)


def _phase(step: StepDocument) -> ProgrammePhase:
    return ProgrammePhase(
        step.state,
        step.duration_s,
        step.duration_s if step.min_s is None else step.min_s,
        step.duration_s if step.max_s is None else step.max_s,
    )


def _parse(text: str | bytes, where: str) -> PlansDocument:
    try:
        return PlansDocument.model_validate_json(text)
    except ValidationError as defect:
        first = defect.errors()[0]
        raise InputError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from defect


def _dump(plans: Iterable[PlanDocument], timetables: tuple[TimetableDocument, ...] = ()) -> str:
    document: dict[str, Any] = {"format": "citytwin.signal-plans", "version": 1}
    document["plans"] = [plan.model_dump(exclude_unset=True) for plan in plans]
    if timetables:
        document["timetables"] = [t.model_dump(exclude_unset=True) for t in timetables]
    return json.dumps(document, ensure_ascii=False, indent=1)
