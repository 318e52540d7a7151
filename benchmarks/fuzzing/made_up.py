"""Made-up signals of 2 to 30 links: crossing approaches, turns that give way, walkers, arrows, night programmes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np

from networks.graph import Bools, Programme, ProgrammePhase, Signal
from networks.stages import recognise_stages
from signals.lamps import LampRecord
from signals.plan import LampStep
from signals.transitions import settle

MOST_LINKS = 30


def make_signal(rng: Random, name: str, *, links: int | None = None) -> Signal:
    """A signal whose shipped programme obeys every rule but the longest red, interstages spelt out."""
    count = links or rng.randint(2, MOST_LINKS)
    walkers = np.array([rng.random() < 0.2 for _ in range(count)])
    approach = [rng.randrange(4) for _ in range(count)]
    foes = np.zeros((count, count), np.bool_)
    density = rng.choice((0.4, 0.7, 0.9))
    for i in range(count):
        for j in range(i):
            beside = approach[i] == approach[j] and not (walkers[i] ^ walkers[j])
            foes[i, j] = foes[j, i] = rng.random() < (0.05 if beside else density) and not (walkers[i] and walkers[j])
    states = _stages(rng, foes, walkers)
    night = _night(rng, walkers, states)
    bare = _bare_signal(rng, name, foes, walkers, states, night)
    day = _programme(rng, bare, states)
    programmes = (day, *bare.programmes[1:])
    return replace(
        bare,
        programmes=programmes,
        stages=recognise_stages(programmes),
        max_red_s=max(bare.max_red_s, *(p.cycle_s for p in programmes)),
    )


def _stages(rng: Random, foes: Bools, walkers: Bools) -> list[str]:
    count = len(foes)
    gives_way = rng.choice((0.0, 0.2, 0.5))
    waiting, states = set(range(count)), []
    while waiting and len(states) < 8:
        first = rng.choice(sorted(waiting))
        lamps = ["s" if rng.random() < 0.03 and not walkers[k] else "r" for k in range(count)]
        lamps[first] = "G"
        members = [first]
        for k in rng.sample(range(count), count):
            against = [m for m in members if foes[k, m]]
            if k in members or rng.random() < 0.15:
                continue
            if not against:
                lamps[k] = "g" if rng.random() < 0.1 else "G"
            elif len(against) <= 2 and rng.random() < gives_way and all(lamps[m] == "G" for m in against):
                lamps[k] = "g"
            else:
                continue
            members.append(k)
        waiting -= set(members)
        states.append("".join(lamps))
    if len(states) == 1:
        closed = rng.choice([k for k in range(count) if states[0][k] in "Gg"])
        other = "".join("G" if k == closed else "r" for k in range(count))
        states.append(other if other != states[0] else "r" * count)
    return states


def _night(rng: Random, walkers: Bools, states: list[str]) -> list[str]:
    """States of a second programme in which lamps flash or are dark."""
    kind = rng.random()
    if kind < 0.7:
        return []
    flash = "".join("O" if w else rng.choice("oO") for w in walkers)
    if kind < 0.85:
        return [flash]
    day = rng.choice(states)
    return [flash, "".join("O" if w and c == "r" else c for w, c in zip(walkers, day, strict=True))]


def _bare_signal(rng: Random, name: str, foes: Bools, walkers: Bools, states: list[str], night: list[str]) -> Signal:
    count = len(foes)
    phases = tuple(ProgrammePhase(s, 20.0, 20.0, 20.0) for s in states)
    programmes = [Programme("day", "static", 0.0, phases)]
    if night:
        programmes.append(
            Programme("night", "static", 0.0, tuple(ProgrammePhase(s, 60.0, 60.0, 60.0) for s in night))
        )
    conflicts = foes.copy()
    for state in (*states, *night):
        lit = np.array([c in "GgyY" for c in state])
        conflicts &= ~np.outer(lit, lit)
    yellow_s = rng.choice((3.0, 3.0, 3.5, 4.0, 5.0))
    intergreen_s = np.array([[float(rng.randint(2, 12)) for _ in range(count)] for _ in range(count)])
    clearance_s = np.where(walkers, [rng.uniform(3.0, 14.0) for _ in range(count)], 0.0)
    return Signal(
        id=name,
        nodes=(0,),
        link_count=count,
        link_movements=tuple(() if w or rng.random() < 0.05 else (k,) for k, w in enumerate(walkers)),
        crossings=(),
        programmes=tuple(programmes),
        stages=recognise_stages(programmes),
        foes=foes,
        conflicts=conflicts,
        intergreen_s=np.where(conflicts, np.maximum(intergreen_s, yellow_s), 0.0),
        yellow_s=yellow_s,
        all_red_s=float(rng.randint(0, 3)),
        min_green_s=np.array([float(rng.choice((5, 5, 5, 6.5, 8))) for _ in range(count)]),
        max_red_s=float(rng.choice((60, 90, 180))),
        pedestrian=walkers,
        pedestrian_clearance_s=clearance_s,
    )


def _programme(rng: Random, signal: Signal, states: list[str]) -> Programme:
    """The stages in turn through their interstages; the second of two rounds, so that its end meets its start."""
    stand_s = [float(rng.randint(15, 40)) for _ in states]
    record, now_s, steps = LampRecord.start(states[-1], 0.0), 100.0, []
    for _ in range(2):
        steps = []
        for state, seconds in zip(states, stand_s, strict=True):
            for step in (*settle(signal, record, state, now_s), LampStep(state, seconds)):
                record, now_s = record.then(step.state, now_s), now_s + step.duration_s
                steps.append(step)
    phases = tuple(ProgrammePhase(s.state, s.duration_s, s.duration_s, s.duration_s) for s in steps)
    return Programme("day", "static", float(rng.randint(0, 60)), phases)
