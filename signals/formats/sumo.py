"""SUMO's tlLogic.

SUMO holds cyclic programmes only, so a rolling plan can be written as JSON but not as tlLogic. SUMO's clock counts
from its own second 0; `epoch_of_zero_s` is the epoch of that second. Format: SUMO documentation, "Simulation/Traffic
Lights".
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path

from networks.errors import InputError
from signals.formats.fields import index_of, number_text
from signals.plan import LampStep, SignalPlan


def to_sumo(plans: Sequence[SignalPlan], *, epoch_of_zero_s: float, programme: str = "citytwin") -> str:
    """A SUMO additional file of static programmes. Raises InputError for a plan that does not repeat."""
    root = ET.Element("additional")
    for plan in plans:
        if not plan.repeats:
            raise InputError(f"plan of signal {plan.signal_id} runs once; a tlLogic repeats")
        offset_s = (plan.offset_s - epoch_of_zero_s) % plan.cycle_s
        logic = ET.SubElement(
            root, "tlLogic", id=plan.signal_id, type="static", programID=programme, offset=number_text(offset_s)
        )
        for step in plan.steps:
            ET.SubElement(logic, "phase", duration=number_text(step.duration_s), state=step.state)
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
        signal=index_of(logic.attrib["id"], signal_index),
        signal_id=logic.attrib["id"],
        steps=steps,
        valid_from_s=epoch_of_zero_s,
        valid_until_s=math.inf,
        repeats=True,
        offset_s=epoch_of_zero_s + float(logic.get("offset", "0")),
        source="file",
        reason=f"programme {logic.get('programID', '')}",
    )
