"""Interstages: the way from one set of greens to another that breaks no rule of the signal.

Each link moves on its own: a link that loses its green keeps it for as long as nothing waits for it, then shows the
full yellow, then red; a link that gains one waits until everything it meets has cleared, and starts just then. What
stays open stays open, G becoming g at once and g becoming G only when its foes have cleared. A lamp that is off
(o, O) goes red at once, its traffic clearing from then on; one that is to go off starts as a green would.
"""

from __future__ import annotations

import math

from networks.graph import Signal
from signals import transitions_kernels as kernels
from signals.lamps import GREEN, LampRecord
from signals.plan import LampStep
from signals.rules import encode, rules_of

_LETTER_OF_CODE = b"rygGsO".ljust(256, b"?")


def transition(signal: Signal, from_state: str, to_state: str) -> tuple[LampStep, ...]:
    """Steps from one stage to another, the target itself not included; empty when it may follow at once.

    The first stage is taken to have stood for its minimum green and for every clearance. After a short one some link
    may still be clearing from before: `settle`, which knows the past, then gives the exact steps.
    """
    return settle(signal, LampRecord.start(from_state, 0.0), to_state, 0.0)


def settle(signal: Signal, record: LampRecord, to_state: str, at_s: float) -> tuple[LampStep, ...]:
    """Steps that lead from the lamps of `record`, whatever they show at `at_s`, to a stage, the stage not included.

    Greens in their minimum are kept until it is over, a running yellow is completed, links closed before `at_s` still
    get their clearance. Times come from the record, so `at_s` is a whole second at or after `record.at_s`.
    """
    rules = rules_of(signal)
    codes = encode([record.state, to_state])
    begins_s, lamps = kernels.lead(
        codes[0],
        codes[1],
        record.since_s,
        record.green_from_s,
        record.green_until_s,
        float(at_s),
        rules.pairs,
        rules.clear_s,
        rules.min_green_s,
        rules.yellow_s,
    )
    if len(begins_s) == 1:
        return ()
    moments_s = begins_s.tolist()
    letters = lamps.tobytes().translate(_LETTER_OF_CODE).decode()
    width = len(to_state)
    states = [letters[row * width : (row + 1) * width] for row in range(len(moments_s) - 1)]
    if "O" in letters:  # off is o or O, as the stage has it
        states = ["".join(n if x == "O" else x for x, n in zip(state, to_state, strict=True)) for state in states]
    ends_s = moments_s[1:]
    return tuple(LampStep(state, end - begin) for state, begin, end in zip(states, moments_s, ends_s, strict=False))


def is_stage(state: str) -> bool:
    """Some green and no yellow: a state that may stand."""
    return not set(state) & set("yYuU") and bool(set(state) & set(GREEN))


def length_s(steps: tuple[LampStep, ...]) -> float:
    return math.fsum(step.duration_s for step in steps)
