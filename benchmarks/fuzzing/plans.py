"""Hostile plans by the block: each judged by the proof and by the plain checker."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.fuzzing.hostile import Case, Hostility
from benchmarks.fuzzing.made_up import make_signal
from benchmarks.fuzzing.plain import PlainChecker
from networks.errors import UnsafePlanError
from networks.graph import Signal
from signals.safety import Violation, approve

PLANS_A_SIGNAL = 100
REAL_SHARE = 0.3  # of the signals, where real ones are given


@dataclass
class Verdicts:
    plans: int = 0
    approved: int = 0
    unsafe_approved: int = 0
    safe_refused: int = 0
    other_findings: int = 0  # both refuse, but for different reasons
    kinds: Counter[str] = field(default_factory=Counter)  # of plans, and of those approved
    rules: Counter[str] = field(default_factory=Counter)  # plans that the proof found to break it
    examples: list[str] = field(default_factory=list)


def judge_block(seed: str, plans: int, real: Sequence[Signal]) -> Verdicts:
    """So many plans over freshly made signals and, where given, real ones."""
    rng, verdicts = Random(seed), Verdicts()
    count = math.ceil(plans / PLANS_A_SIGNAL)
    signals = [
        rng.choice(real) if real and rng.random() < REAL_SHARE else make_signal(rng, f"S{n}") for n in range(count)
    ]
    for signal in signals:
        hostility, checker = Hostility(signal, rng.sample(signals, min(5, count)), rng), PlainChecker(signal)
        for _ in range(min(PLANS_A_SIGNAL, plans - verdicts.plans)):
            judge(hostility.case(), signal, checker, verdicts)
    return verdicts


def judge(case: Case, signal: Signal, checker: PlainChecker, verdicts: Verdicts) -> None:
    """One plan, both ways."""
    max_green_s = math.inf if case.max_green_s is None else case.max_green_s
    violations: tuple[Violation, ...] = ()
    try:
        approve(
            case.plan,
            signal,
            case.lamps,
            now_s=case.now_s,
            version=case.version,
            max_green_s=case.max_green_s,
        )
    except UnsafePlanError as unsafe:
        violations = tuple(v for v in unsafe.violations if isinstance(v, Violation))
    sound, broken = checker.approves(
        case.plan, case.lamps, now_s=case.now_s, version=case.version, max_green_s=max_green_s
    )
    approved = not violations
    found = {(v.rule, v.links) for v in violations}
    verdicts.plans += 1
    verdicts.approved += approved
    verdicts.kinds[case.kind.partition(",")[0]] += 1
    verdicts.kinds[case.kind.partition(",")[0] + ", approved"] += approved
    verdicts.rules.update({rule for rule, _ in found})
    verdicts.unsafe_approved += approved and not sound
    verdicts.safe_refused += sound and not approved
    counted = {f for f in found if f[0] != "times"}  # the moment of approval is not the plan's doing
    alike = broken is None or ("more", ()) in found or counted == broken
    verdicts.other_findings += approved == sound and not alike
    if (approved != sound or not alike) and len(verdicts.examples) < 5:
        verdicts.examples.append(f"{case} proof {sorted(found)} plain {sorted(broken or ())} sound {sound}")
