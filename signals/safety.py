"""The proof of safety: what a plan must not do, and the only maker of `ApprovedPlan`.

A plan is judged on the whole of its validity, change by change, starting from the lamps as they stand at
`valid_from_s`. A cyclic plan is followed until everything repeats; without lamps it is judged in its own steady
state. Rules, with the name that a `Violation` carries:

signal, steps, letters, times, lamps   the plan does not fit the signal, or is no plan at all
conflict              links that `signal.conflicts` keeps apart are open (green or yellow) together
priority              foes that a shipped phase opens together show priorities that none shows (G with G, g over G)
intergreen            a link starts before another that it meets has cleared, counted from that one's end of green
pedestrian clearance  the same where walkers have to clear
yellow                a green ends without yellow, a yellow is cut short, comes out of red or turns into green
min green, max green  a green shorter than the link's minimum; longer than the maximum, if one is given
max red               a link that some stage serves waits longer than `signal.max_red_s`, unless the lamps found
                      at the start left no time to open it sooner
off                   a link is dark or flashing while another that it meets is lit, though no shipped phase shows
                      that; going off counts as a start, and coming back as an end of green, for the intergreens
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from networks.errors import UnsafePlanError
from networks.graph import Floats, Signal
from signals import safety_kernels as kernels
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, Seal, SignalPlan
from signals.rules import ILLEGAL, SignalRules, encode, encode_letters, rules_of
from signals.safety_kernels import ARROW

MOST_STEPS = 1000  # of a plan
LATEST_CLOCK_S = 1e12  # beyond, and long before floats stop telling seconds apart, no clock is right
LATEST_START_S = 2.0  # a plan may have started this long before it is judged, or before it reaches the controller
_ROOM = 64  # findings kept of one plan
_ONE_SECOND = np.ones(1)

_RULE_NAMES = {
    kernels.CONFLICT: "conflict",
    kernels.PRIORITY: "priority",
    kernels.INTERGREEN: "intergreen",
    kernels.MISSING_YELLOW: "yellow",
    kernels.SHORT_YELLOW: "yellow",
    kernels.STRAY_YELLOW: "yellow",
    kernels.YELLOW_TO_GREEN: "yellow",
    kernels.MIN_GREEN: "min green",
    kernels.MAX_GREEN: "max green",
    kernels.MAX_RED: "max red",
    kernels.UNLIT: "off",
}


@dataclass(frozen=True, slots=True)
class Violation:
    """One defect of a plan: `value` found against `limit`, both in seconds where the rule is about time."""

    rule: str
    signal_id: str
    links: tuple[int, ...]
    at_s: float  # moment at which it would happen
    value: float = 0.0
    limit: float = 0.0
    detail: str = ""

    def __str__(self) -> str:
        where = f" links {','.join(map(str, self.links))}" if self.links else ""
        numbers = f": {self.value:g} s, needs {self.limit:g} s" if self.limit else ""
        return f"{self.rule} at {self.signal_id}{where} t={self.at_s:.0f}{numbers} {self.detail}".rstrip()


def approve(
    plan: SignalPlan,
    signal: Signal,
    lamps: LampRecord | None,
    *,
    now_s: float,
    version: int,
    max_green_s: float | None = None,
) -> ApprovedPlan:
    """Prove the plan and seal it. Raises UnsafePlanError with every violation found."""
    violations = find_violations(plan, signal, lamps, max_green_s=max_green_s)
    if version < 0:
        violations.append(Violation("times", signal.id, (), now_s, detail=f"version {version} is below 0"))
    if not math.isfinite(now_s) or not plan.valid_until_s > now_s or plan.valid_from_s < now_s - LATEST_START_S:
        detail = f"valid {plan.valid_from_s} to {plan.valid_until_s} is past at {now_s}"
        violations.append(Violation("times", signal.id, (), now_s, detail=detail))
    if violations:
        raise UnsafePlanError(violations)
    return ApprovedPlan(plan, version, now_s, _fingerprint(plan, signal, lamps), Seal(plan))


def _fingerprint(plan: SignalPlan, signal: Signal, lamps: LampRecord | None) -> str:
    """Of the rules, the plan and the lamps, by value: numbers of any type that are equal give the same text."""
    proof = hashlib.blake2b(rules_of(signal).digest, digest_size=16)
    count = len(plan.steps)
    proof.update("".join([step.state for step in plan.steps]).encode())
    numbers = [step.duration_s for step in plan.steps]
    numbers += (plan.valid_from_s, plan.valid_until_s, plan.offset_s + 0.0)
    proof.update(struct.pack(f"<?i{count + 3}d", bool(plan.repeats), count, *numbers))
    if lamps is not None:
        proof.update(lamps.state.encode())
        for times_s in (lamps.since_s, lamps.green_from_s, lamps.green_until_s):
            proof.update(np.asarray(times_s, np.float64).tobytes())
    return proof.hexdigest()


def find_violations(
    plan: SignalPlan, signal: Signal, lamps: LampRecord | None, *, max_green_s: float | None = None
) -> list[Violation]:
    """Everything in which the plan breaks the rules of the signal, in order of time; empty: safe.

    `lamps`: what the signal shows just before `plan.valid_from_s`. None: judged alone, a rolling plan as if its first
    state had stood for long, a cyclic one in its steady state.
    """
    rules = rules_of(signal)
    defects = _misfits(plan, signal, lamps)
    if defects:
        return defects
    codes = encode([step.state for step in plan.steps])
    defects = _letters(plan, signal, codes, rules)
    if defects:
        return defects
    max_green_s = math.inf if max_green_s is None else max_green_s
    from_s = float(plan.valid_from_s)
    horizon_s, into_s = float(plan.valid_until_s - from_s), 0.0
    if plan.repeats:
        cycle_s = plan.cycle_s
        longest_s = max(rules.max_red_s, max_green_s if math.isfinite(max_green_s) else 0.0, rules.shortest_wait_s)
        horizon_s = min(horizon_s, 2.0 * cycle_s + longest_s + 1.0)
        into_s = float((from_s - plan.offset_s) % cycle_s)
    alone = lamps is None
    lamps = lamps or LampRecord.start(plan.state_at(from_s), from_s)
    findings = np.empty((_ROOM, 6))
    found = kernels.judge_steps(
        codes,
        np.array([step.duration_s for step in plan.steps], np.float64),
        into_s,
        horizon_s,
        bool(plan.repeats),
        alone,
        rules.pairs,
        rules.clear_s,
        rules.min_green_s,
        rules.served,
        rules.yellow_s,
        max_green_s,
        rules.max_red_s,
        rules.shortest_wait_s,
        encode([lamps.state])[0],
        from_s,
        lamps.since_s,
        lamps.green_from_s,
        lamps.green_until_s,
        findings,
    )
    if found == kernels.UNREADABLE:
        return [_unreadable(signal, lamps, from_s)]
    return _violations(plan, signal, rules, found, findings) if found else []


def find_change_violations(signal: Signal, lamps: LampRecord, state: str, at_s: float) -> list[Violation]:
    """What one change of the lamps to `state` at `at_s` would break, apart from the maxima: a conflict monitor."""
    rules = rules_of(signal)
    if len(state) != signal.link_count or len(lamps.state) != signal.link_count:
        return [Violation("steps", signal.id, (), at_s, detail=f"{len(state)} lamps for {signal.link_count} links")]
    codes = encode([state, lamps.state])
    if codes.max(initial=0) >= ILLEGAL:
        return [Violation("letters", signal.id, (), at_s, detail=f"state {state!r} after {lamps.state!r}")]
    findings = np.empty((_ROOM, 6))
    found = kernels.judge_steps(
        codes[:1],
        _ONE_SECOND,
        0.0,
        0.0,
        False,
        False,
        rules.pairs,
        rules.clear_s,
        rules.min_green_s,
        rules.served,
        rules.yellow_s,
        math.inf,
        math.inf,
        math.inf,
        codes[1],
        float(at_s),
        lamps.since_s,
        lamps.green_from_s,
        lamps.green_until_s,
        findings,
    )
    if found == kernels.UNREADABLE:
        return [_unreadable(signal, lamps, at_s)]
    return [_violation(signal, rules, row, at_s) for row in findings[: min(found, _ROOM)]] if found else []


def _unreadable(signal: Signal, lamps: LampRecord, at_s: float) -> Violation:
    return Violation("lamps", signal.id, (), at_s, detail=f"record {lamps.state!r} is not readable")


def _misfits(plan: SignalPlan, signal: Signal, lamps: LampRecord | None) -> list[Violation]:
    """Defects that leave nothing to follow: wrong signal, shapes, numbers."""
    at_s = plan.valid_from_s if math.isfinite(plan.valid_from_s) else 0.0
    defects: list[Violation] = []

    def defect(rule: str, detail: str) -> None:
        defects.append(Violation(rule, signal.id, (), at_s, detail=detail))

    if plan.signal_id != signal.id:
        defect("signal", f"plan is for {plan.signal_id!r}")
    if not 0 < len(plan.steps) <= MOST_STEPS:
        defect("steps", f"{len(plan.steps)} steps")
    widths = {len(step.state) for step in plan.steps} - {signal.link_count}
    if widths:
        defect("steps", f"{sorted(widths)[0]} lamps for {signal.link_count} links")
    bad_s = [s.duration_s for s in plan.steps if not (0.0 < s.duration_s < 1e9 and s.duration_s == int(s.duration_s))]
    if bad_s:
        defect("times", f"step of {bad_s[0]} s: not a positive whole number")
    for name, value in (("valid_from_s", plan.valid_from_s), ("offset_s", plan.offset_s)):
        if not (abs(value) < LATEST_CLOCK_S and value == int(value)):
            defect("times", f"{name} {value} is not a whole second of this age")
    endless = plan.repeats and plan.valid_until_s == math.inf
    if not (plan.valid_until_s > plan.valid_from_s and (endless or math.isfinite(plan.valid_until_s))):
        defect("times", f"valid until {plan.valid_until_s}")
    if lamps is not None:
        arrays = (lamps.since_s, lamps.green_from_s, lamps.green_until_s)
        if any(a.shape != (signal.link_count,) for a in arrays) or len(lamps.state) != signal.link_count:
            defect("lamps", f"record of {len(lamps.state)} lamps for {signal.link_count} links")
        elif ILLEGAL in encode_letters(lamps.state):
            defect("lamps", f"record {lamps.state!r} is not readable")
        elif not lamps.at_s <= plan.valid_from_s:
            defect("lamps", f"record of {lamps.at_s} is later than the plan's start {plan.valid_from_s}")
    return defects


def _letters(plan: SignalPlan, signal: Signal, codes: NDArray[np.uint8], rules: SignalRules) -> list[Violation]:
    """Letters that SUMO does not know, and s, o, O on links where no shipped phase shows them."""
    if codes.max(initial=0) < ARROW:
        return []
    defects: dict[tuple[int, str], Violation] = {}
    for row, link in np.argwhere(codes >= ARROW):
        letter = plan.steps[row].state[link]
        if codes[row, link] == ILLEGAL or letter not in rules.shipped_other[link]:
            detail = f"letter {letter!r} in step {row}"
            defects.setdefault(
                (int(link), letter), Violation("letters", signal.id, (int(link),), plan.valid_from_s, detail=detail)
            )
    return list(defects.values())


def _violations(
    plan: SignalPlan, signal: Signal, rules: SignalRules, found: int, findings: Floats
) -> list[Violation]:
    kept: dict[tuple[float, ...], Violation] = {}
    for row in findings[: min(found, _ROOM)]:
        moment_s = row[3] % plan.cycle_s if plan.repeats else row[3]
        kept.setdefault((row[0], row[1], row[2], moment_s), _violation(signal, rules, row, plan.valid_from_s))
    violations = sorted(kept.values(), key=lambda v: v.at_s)
    if found > _ROOM:
        violations.append(
            Violation("more", signal.id, (), plan.valid_from_s, detail=f"and {found - _ROOM} more findings")
        )
    return violations


def _violation(signal: Signal, rules: SignalRules, row: Floats, from_s: float) -> Violation:
    code, link, other = int(row[0]), int(row[1]), int(row[2])
    rule = _RULE_NAMES[code]
    if code == kernels.INTERGREEN and rules.pedestrian[link]:
        rule = "pedestrian clearance"
    links = (link,) if other < 0 else (link, other)
    return Violation(rule, signal.id, links, float(from_s + row[3]), float(row[4]), float(row[5]))
