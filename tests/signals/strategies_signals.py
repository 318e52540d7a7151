"""Hypothesis strategies: small signals with conflicts and permissive pairs, and plans from honest to hostile."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from networks.graph import Programme, ProgrammePhase, Signal
from networks.stages import recognise_stages
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.transitions import settle


def make_signal(states, foes, *, yellow_s=3.0, all_red_s=1.0, pedestrian=(), intergreen_s=None, max_red_s=120.0):
    """A signal whose programme shows the given states for 20 s each, without interstages."""
    count = len(states[0])
    programme = Programme("0", "static", 0.0, tuple(ProgrammePhase(s, 20.0, 20.0, 20.0) for s in states))
    conflicts = foes.copy()
    for state in states:
        open_links = np.array([c in "Gg" for c in state])
        conflicts &= ~np.outer(open_links, open_links)
    walkers = np.array([k in pedestrian for k in range(count)])
    clearance_s = np.where(walkers, 6.5, 0.0)
    if intergreen_s is None:
        intergreen_s = np.full((count, count), yellow_s + all_red_s)
    leaving_s = np.where(walkers[:, None], np.maximum(intergreen_s, 7.0), intergreen_s)
    return Signal(
        id="S",
        nodes=(0,),
        link_count=count,
        link_movements=tuple(() if walkers[k] else (k,) for k in range(count)),
        crossings=(),
        programmes=(programme,),
        stages=recognise_stages((programme,)),
        foes=foes,
        conflicts=conflicts,
        intergreen_s=np.where(conflicts, leaving_s, 0.0),
        yellow_s=yellow_s,
        all_red_s=all_red_s,
        min_green_s=np.full(count, 5.0),
        max_red_s=max_red_s,
        pedestrian=walkers,
        pedestrian_clearance_s=clearance_s,
    )


@st.composite
def signals(draw, most_links=6):
    count = draw(st.integers(2, most_links))
    upper = draw(st.lists(st.booleans(), min_size=count * count, max_size=count * count))
    foes = np.triu(np.array(upper).reshape(count, count), 1)
    foes = foes | foes.T
    states = draw(
        st.lists(st.text("GgGgrrrrrso", min_size=count, max_size=count), min_size=2, max_size=5, unique=True)
    )
    if not any(c in "Gg" for s in states for c in s):
        states = [*states, "G" + "r" * (count - 1)]
    intergreens = draw(st.lists(st.integers(2, 9), min_size=count * count, max_size=count * count))
    return make_signal(
        states,
        foes,
        yellow_s=float(draw(st.integers(3, 5))),
        all_red_s=float(draw(st.integers(0, 3))),
        pedestrian=draw(st.sets(st.integers(0, count - 1), max_size=2)),
        intergreen_s=np.array(intergreens, float).reshape(count, count),
        max_red_s=float(draw(st.sampled_from([40, 90, 180]))),
    )


@st.composite
def honest_walks(draw, signal, *, from_s=1000.0):
    """(record, plan): stages one after another through their interstages; it may still starve a link."""
    states = [s.state for s in signal.stages]
    first = draw(st.sampled_from(states))
    record = LampRecord.start(first, from_s)
    steps, now, at = [], record, from_s
    for state in draw(st.lists(st.sampled_from(states), min_size=1, max_size=5)):
        for step in (*settle(signal, now, state, at), LampStep(state, float(draw(st.integers(5, 12))))):
            steps.append(step)
            now = now.then(step.state, at)
            at += step.duration_s
    until_s = at + draw(st.integers(-5, 20))
    return record, SignalPlan(0, signal.id, tuple(steps), from_s, max(until_s, from_s + 1.0))


@st.composite
def hostile_plans(draw, signal, *, from_s=1000.0, letters="GgyrGgrrsuoO"):
    """Anything of the right shape: random lamps, or an honest walk with a few letters and seconds changed."""
    count = signal.link_count
    if draw(st.booleans()):
        states = draw(st.lists(st.text(letters, min_size=count, max_size=count), min_size=1, max_size=8))
        record = LampRecord.start(draw(st.text("Ggryo", min_size=count, max_size=count)), from_s)
        steps = [LampStep(s, float(draw(st.integers(1, 12)))) for s in states]
    else:
        record, plan = draw(honest_walks(signal, from_s=from_s))
        steps = list(plan.steps)
        for _ in range(draw(st.integers(1, 3))):
            n, k = draw(st.integers(0, len(steps) - 1)), draw(st.integers(0, count - 1))
            state = steps[n].state[:k] + draw(st.sampled_from(letters)) + steps[n].state[k + 1 :]
            steps[n] = LampStep(state, max(1.0, steps[n].duration_s + draw(st.integers(-4, 4))))
    repeats = draw(st.booleans())
    length_s = draw(st.integers(1, 150))
    offset_s = float(draw(st.integers(-50, 50)))
    return record, SignalPlan(0, signal.id, tuple(steps), from_s, from_s + length_s, repeats, offset_s)
