"""Plans in the formats of others: SUMO's tlLogic and our JSON document.

SUMO holds cyclic programmes only, so a rolling plan can be written as JSON but not as tlLogic. SUMO's clock counts
from its own second 0; `epoch_of_zero_s` is the epoch of that second. Format: SUMO documentation, "Simulation/Traffic
Lights".
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from networks.errors import InputError
from networks.messages import LampStepOrder, PlanOrder
from signals.plan import ApprovedPlan, LampStep, SignalPlan

LAST_EPOCH_S = 9e10  # stands for "until withdrawn" where a message wants a number


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
            signal=_index(p.signal, signal_index),
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


def to_order(approved: ApprovedPlan, *, signature: str = "") -> PlanOrder:
    """The message that carries an approved plan to its controller. A cycle is turned to begin at `valid_from`."""
    plan = approved.plan
    return PlanOrder(
        junction=plan.signal_id,
        plan_version=approved.version,
        valid_from=plan.valid_from_s,
        valid_until=min(plan.valid_until_s, LAST_EPOCH_S),
        repeats=plan.repeats,
        steps=tuple(LampStepOrder(state=s.state, duration_s=s.duration_s) for s in _from_start(plan)),
        signature=signature,
    )


def _from_start(plan: SignalPlan) -> tuple[LampStep, ...]:
    if not plan.repeats:
        return plan.steps
    into_s = (plan.valid_from_s - plan.offset_s) % plan.cycle_s
    for n, step in enumerate(plan.steps):
        if into_s < step.duration_s:
            head = LampStep(step.state, step.duration_s - into_s)
            tail = (LampStep(step.state, into_s),) if into_s else ()
            return (head, *plan.steps[n + 1 :], *plan.steps[:n], *tail)
        into_s -= step.duration_s
    return plan.steps


def to_sumo(plans: Sequence[SignalPlan], *, epoch_of_zero_s: float, programme: str = "citytwin") -> str:
    """A SUMO additional file of static programmes. Raises InputError for a plan that does not repeat."""
    root = ET.Element("additional")
    for plan in plans:
        if not plan.repeats:
            raise InputError(f"plan of signal {plan.signal_id} runs once; a tlLogic repeats")
        offset_s = (plan.offset_s - epoch_of_zero_s) % plan.cycle_s
        logic = ET.SubElement(
            root, "tlLogic", id=plan.signal_id, type="static", programID=programme, offset=_number(offset_s)
        )
        for step in plan.steps:
            ET.SubElement(logic, "phase", duration=_number(step.duration_s), state=step.state)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def from_sumo(path: Path, signal_index: Mapping[str, int], *, epoch_of_zero_s: float) -> tuple[SignalPlan, ...]:
    """Cyclic plans of every tlLogic in a SUMO file, on their stated durations.

    Raises InputError naming the file and the element.
    """
    try:
        logics = list(ET.parse(path).getroot().iter("tlLogic"))
        return tuple(_from_logic(logic, signal_index, epoch_of_zero_s) for logic in logics)
    except (ET.ParseError, OSError) as defect:
        raise InputError(f"{path}: not readable as SUMO XML: {defect}") from defect
    except (KeyError, ValueError) as defect:
        raise InputError(f"{path}: a tlLogic lacks or misstates {defect}") from defect


def _from_logic(logic: ET.Element, signal_index: Mapping[str, int], epoch_of_zero_s: float) -> SignalPlan:
    steps = tuple(LampStep(p.attrib["state"], float(p.attrib["duration"])) for p in logic.findall("phase"))
    if not steps or not all(0.0 < s.duration_s < 1e6 for s in steps):
        raise ValueError(f"phases of {logic.attrib['id']!r}")
    return SignalPlan(
        signal=_index(logic.attrib["id"], signal_index),
        signal_id=logic.attrib["id"],
        steps=steps,
        valid_from_s=epoch_of_zero_s,
        valid_until_s=math.inf,
        repeats=True,
        offset_s=epoch_of_zero_s + float(logic.get("offset", "0")),
        source="file",
        reason=f"programme {logic.get('programID', '')}",
    )


def _index(signal_id: str, signal_index: Mapping[str, int]) -> int:
    if signal_id not in signal_index:
        raise InputError(f"the network has no signal {signal_id!r}")
    return signal_index[signal_id]


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
