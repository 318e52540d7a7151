"""Hostile plans: anything a broken or malicious controller might send, and honest ones with a few things changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from networks.graph import Signal
from signals.fixed import fixed_plan
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.transitions import settle

FROM_S = 1_772_000_000.0
LETTERS = "GgyrGgrrsuoO"
_LONGEST_STEPS_S = 2000.0  # a plan is followed second by second: months would tell no more


@dataclass(frozen=True, slots=True)
class Case:
    """A plan with everything that it is to be judged on."""

    kind: str
    plan: SignalPlan
    lamps: LampRecord | None
    now_s: float
    version: int
    max_green_s: float | None


class Hostility:
    """Makes cases for one signal; `others` are signals whose plans may be mistaken for its own."""

    def __init__(self, signal: Signal, others: list[Signal], rng: Random) -> None:
        self.signal, self.rng = signal, rng
        self.states = [s.state for s in signal.stages] or [p.state for p in signal.programme.phases]
        self._others = [o for o in others if o is not signal]
        self._fixed = fixed_plan(signal, epoch_of_zero_s=0.0)
        self._replayed: list[SignalPlan] = []
        self._makers: tuple[tuple[str, int, Callable[[], tuple[LampRecord | None, SignalPlan]]], ...] = (
            ("honest", 4, self._honest),
            ("mutated", 8, lambda: self._altered(*self._honest())),
            ("lost step", 3, lambda: self._without_a_step(*self._honest())),
            ("short times", 4, lambda: self._shortened(*self._honest())),
            ("shuffled", 2, lambda: self._shuffled(*self._honest())),
            ("random lamps", 4, self._random),
            ("foreign", 1, self._foreign),
            ("replayed", 3, self._replay),
            ("cycle", 4, self._cycle),
            ("bad numbers", 2, lambda: self._bad_numbers(*self._honest())),
            ("bad letters", 2, lambda: self._bad_letters(*self._honest())),
            ("bad lengths", 1, lambda: self._bad_lengths(*self._honest())),
            ("bad record", 3, lambda: self._bad_record(*self._honest())),
            ("huge steps", 2, lambda: self._huge(*self._honest())),
        )
        self._weights = [weight for _, weight, _ in self._makers]

    def case(self) -> Case:
        rng = self.rng
        kind, _, make = rng.choices(self._makers, self._weights)[0]
        lamps, plan = make()
        if rng.random() < 0.03:
            lamps = None
        now_s, version = plan.valid_from_s - rng.choice((0.0, 0.0, 1.0, 3.0)), rng.randint(0, 10**6)
        if rng.random() < 0.02:
            now_s = rng.choice((now_s + 2.0, now_s + 9.0, plan.valid_until_s, math.nan, math.inf, -math.inf))
            kind += ", wrong moment"
        if rng.random() < 0.005:
            version, kind = -rng.randint(1, 9), kind + ", wrong version"
        max_green_s = float(rng.randint(5, 60)) if rng.random() < 0.1 else None
        return Case(kind, plan, lamps, now_s, version, max_green_s)

    def honest(self, record: LampRecord, from_s: float, *, stages: int | None = None) -> SignalPlan:
        """Stages one after another through their interstages; it may still starve a link."""
        rng = self.rng
        steps: list[LampStep] = []
        now, at_s = record, from_s
        for state in rng.choices(self.states, k=stages or rng.randint(1, 4)):
            for step in (*settle(self.signal, now, state, at_s), LampStep(state, float(rng.randint(5, 15)))):
                if steps and steps[-1].state == step.state:
                    steps[-1] = LampStep(step.state, steps[-1].duration_s + step.duration_s)
                else:
                    steps.append(step)
                now, at_s = now.then(step.state, at_s), at_s + step.duration_s
        until_s = max(from_s + 1.0, at_s + rng.randint(-5, 20))
        return SignalPlan(0, self.signal.id, tuple(steps), from_s, until_s)

    def damaged(self, plan: SignalPlan) -> SignalPlan:
        """A plan with one thing or another changed, still well-formed."""
        change = self.rng.choice((self._altered, self._without_a_step, self._shortened, self._shuffled))
        return change(None, plan)[1]

    def record(self) -> LampRecord:
        """Lamps as an honest walk leaves them, somewhere on the way."""
        rng = self.rng
        at_s = FROM_S - rng.choice((0, 7, 30, 90, 200))
        record = LampRecord.start(rng.choice(self.states), at_s)
        if at_s == FROM_S:
            return record
        plan = self.honest(record, at_s, stages=1)
        for step in plan.steps:
            if at_s >= FROM_S:
                break
            record, at_s = record.then(step.state, at_s), at_s + step.duration_s
        return record

    def _honest(self) -> tuple[LampRecord, SignalPlan]:
        record = self.record()
        plan = self.honest(record, FROM_S)
        if self.rng.random() < 0.3:
            self._replayed = [*self._replayed[-7:], plan]
        return record, plan

    def _altered(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        rng, steps = self.rng, list(plan.steps)
        for _ in range(rng.randint(1, 3)):
            n, k = rng.randrange(len(steps)), rng.randrange(self.signal.link_count)
            state = steps[n].state
            if rng.random() < 0.7:
                state = state[:k] + rng.choice(LETTERS) + state[k + 1 :]
            steps[n] = LampStep(state, max(1.0, steps[n].duration_s + rng.randint(-3, 3)))
        return record, replace(plan, steps=tuple(steps))

    def _without_a_step(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        steps = list(plan.steps)
        if len(steps) > 1:
            steps.pop(self.rng.randrange(len(steps)))
        return record, replace(plan, steps=tuple(steps))

    def _shortened(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        steps = list(plan.steps)
        n = self.rng.randrange(len(steps))
        steps[n] = LampStep(steps[n].state, max(1.0, steps[n].duration_s - self.rng.randint(1, 3)))
        return record, replace(plan, steps=tuple(steps))

    def _shuffled(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        rng, steps = self.rng, list(plan.steps)
        if rng.random() < 0.5:
            a, b = rng.randrange(len(steps)), rng.randrange(len(steps))
            steps[a], steps[b] = steps[b], steps[a]
        else:
            steps.insert(rng.randrange(len(steps) + 1), rng.choice(steps))
        return record, replace(plan, steps=tuple(steps))

    def _random(self) -> tuple[LampRecord, SignalPlan]:
        rng, count = self.rng, self.signal.link_count
        letters = rng.choice((LETTERS, "Gr", "rrrrrrG", "rrrrry", "oO", "rG", "gr"))
        states = ["".join(rng.choices(letters, k=count)) for _ in range(rng.randint(1, 6))]
        steps = tuple(LampStep(s, float(rng.randint(1, 12))) for s in states)
        record = LampRecord.start("".join(rng.choices(rng.choice(("Ggryo", "r", letters)), k=count)), FROM_S)
        return record, SignalPlan(0, self.signal.id, steps, FROM_S, FROM_S + rng.randint(1, 150))

    def _foreign(self) -> tuple[LampRecord, SignalPlan]:
        record, plan = self._honest()
        if not self._others:
            return record, replace(plan, signal_id=plan.signal_id + "'")
        other = self.rng.choice(self._others)
        steps = tuple(LampStep(p.state, p.duration_s) for p in other.programme.phases)
        posing = self.rng.random() < 0.7  # under our name
        return record, replace(plan, steps=steps, signal_id=self.signal.id if posing else other.id)

    def _replay(self) -> tuple[LampRecord, SignalPlan]:
        """A plan that was good for other lamps, or at another second."""
        record, plan = self._honest()
        if self._replayed and self.rng.random() < 0.7:
            return record, self.rng.choice(self._replayed)
        late_s = self.rng.randint(1, 20)
        state = plan.state_at(plan.valid_from_s + late_s)
        return record.then(state, FROM_S), plan

    def _cycle(self) -> tuple[LampRecord | None, SignalPlan]:
        rng = self.rng
        base = self._fixed if rng.random() < 0.6 else self._honest()[1]
        until_s = math.inf if rng.random() < 0.4 else FROM_S + rng.randint(1, 900)
        offset_s = rng.choice((0.0, float(rng.randint(-10_000, 10_000)), FROM_S, -FROM_S))
        plan = replace(base, valid_from_s=FROM_S, valid_until_s=until_s, repeats=True, offset_s=offset_s)
        before = plan.state_at(FROM_S - rng.choice((1, 5, 30)))
        record: LampRecord | None = LampRecord.start(before, FROM_S - rng.choice((0, 5, 60)))
        if rng.random() < 0.4:
            record = None
        return (record, plan) if rng.random() < 0.5 else self._altered(record, plan)

    def _bad_numbers(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        rng = self.rng
        bad = rng.choice((math.nan, math.inf, -math.inf, -1.0, 0.0, 0.5, 1e-9, 1e9, 1e300, 2.0000001))
        where = rng.randrange(5)
        if where == 0:
            n, steps = rng.randrange(len(plan.steps)), list(plan.steps)
            steps[n] = LampStep(steps[n].state, bad)
            return record, replace(plan, steps=tuple(steps), repeats=rng.random() < 0.3)
        if where == 1:
            return record, replace(plan, valid_from_s=rng.choice((math.nan, math.inf, -math.inf, FROM_S + 0.5)))
        if where == 2:
            return record, replace(plan, valid_until_s=rng.choice((math.nan, math.inf, -math.inf, FROM_S, 0.0)))
        if where == 3:
            return record, replace(plan, offset_s=bad, repeats=True)
        return record, replace(plan, valid_from_s=plan.valid_until_s, valid_until_s=plan.valid_from_s)

    def _bad_letters(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        rng, steps = self.rng, list(plan.steps)
        n, k = rng.randrange(len(steps)), rng.randrange(self.signal.link_count)
        letter = rng.choice("XxB?0 \u00e9\u7eff\u0130soOU\x00")
        steps[n] = LampStep(steps[n].state[:k] + letter + steps[n].state[k + 1 :], steps[n].duration_s)
        return record, replace(plan, steps=tuple(steps))

    def _bad_lengths(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        rng, steps = self.rng, list(plan.steps)
        where = rng.randrange(4)
        if where == 0:
            return record, replace(plan, steps=())
        if where == 1:
            return record, replace(plan, steps=tuple(steps * (1 + 1000 // len(steps))))
        n = rng.randrange(len(steps))
        state = steps[n].state
        steps[n] = LampStep(state + "r" if where == 2 else state[:-1], steps[n].duration_s)
        return record, replace(plan, steps=tuple(steps))

    def _bad_record(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        """Lamps of another kind than the plan was made for; ages at random, impossible, or none."""
        assert record is not None
        rng, count = self.rng, self.signal.link_count
        where = rng.randrange(6)
        if where == 0:
            times_s = record.since_s.copy()
            times_s[rng.randrange(count)] = math.nan
            name = rng.choice(("since_s", "green_from_s", "green_until_s"))
            return replace(record, **{name: times_s}), plan
        if where == 1:
            return replace(record, at_s=rng.choice((FROM_S + 1.0, math.nan, math.inf))), plan
        if where == 2:
            return LampRecord.start(record.state + "r", FROM_S), plan
        if where == 3:
            return LampRecord.doubtful(record.state, FROM_S), plan
        ages_s = np.array([float(rng.choice((0, 1, 2, 3, 4, 5, 8, 20, 100, 300))) for _ in range(count)])
        green = np.array([c in "Gg" for c in record.state])
        aged = LampRecord(
            FROM_S,
            record.state,
            FROM_S - ages_s,
            np.where(green, FROM_S - ages_s, FROM_S - ages_s - 9.0),
            np.where(green, np.inf, FROM_S - ages_s),
        )
        return aged, plan if where == 4 else self.honest(aged, FROM_S)

    def _huge(self, record: LampRecord | None, plan: SignalPlan) -> tuple[LampRecord | None, SignalPlan]:
        rng, steps = self.rng, list(plan.steps)
        n = rng.randrange(len(steps))
        steps[n] = LampStep(steps[n].state, float(rng.choice((61, 180, 181, 600, _LONGEST_STEPS_S))))
        until_s = plan.valid_from_s + rng.choice((200.0, 1000.0, 1e6, 1e12))
        return record, replace(plan, steps=tuple(steps), valid_until_s=until_s, repeats=rng.random() < 0.2)
