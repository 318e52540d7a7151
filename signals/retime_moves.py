"""Small changes to timings: the steps of the retimer's search.

Every move hands back sound timings only (`PlanMaker.is_sound`), in the same cycle unless it is about the cycle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from signals.retime_plans import (
    LONGEST_CYCLE_S,
    SHORTEST_CYCLE_S,
    PlanMaker,
    StageTiming,
    must_serve,
    open_links,
)
from signals.retime_starts import LEAST_GREEN_S, JunctionTimer

_STEPS_S = (1, 1, 2, 2, 3, 4, 5, 6, 8, 11, 15)
_CYCLE_STEPS_S = (2, 2, 4, 4, 6, 8, 10, 14, 20)


@dataclass(frozen=True, slots=True)
class Mover:
    """Draws moves."""

    maker: PlanMaker
    timer: JunctionTimer
    rng: random.Random
    free: frozenset[int]  # signals that may leave the common cycle

    def shift(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Begin the cycle earlier or later."""
        cycle_s = self.maker.cycle_s(signal, timing)
        step_s = self.rng.choice((*_STEPS_S, self.rng.randrange(1, cycle_s)))
        return replace(timing, offset_s=(timing.offset_s + self.rng.choice((-1, 1)) * step_s) % cycle_s)

    def split(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Move seconds of green from one stage to another; half of the time what follows keeps its place."""
        giver, taker = self.rng.sample(range(len(timing.states)), 2)
        step_s = min(self.rng.choice(_STEPS_S[:9]), timing.greens_s[giver] - LEAST_GREEN_S)
        if step_s < 1:
            return None
        greens_s = list(timing.greens_s)
        greens_s[giver] -= step_s
        greens_s[taker] += step_s
        moved = replace(timing, greens_s=tuple(greens_s))
        if self.rng.random() < 0.5:
            later_s = step_s if taker < giver else -step_s
            moved = replace(moved, offset_s=(timing.offset_s - later_s) % self.maker.cycle_s(signal, timing))
        return moved

    def order(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Swap two stages with their greens."""
        if len(timing.states) < 3:
            return None
        a, b = self.rng.sample(range(len(timing.states)), 2)
        states, greens_s = list(timing.states), list(timing.greens_s)
        states[a], states[b] = states[b], states[a]
        greens_s[a], greens_s[b] = greens_s[b], greens_s[a]
        return self._refit(signal, timing, tuple(states), greens_s)

    def drop(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Leave out a stage whose links others serve too."""
        if len(timing.states) < 3:
            return None
        out = self.rng.randrange(len(timing.states))
        states = timing.states[:out] + timing.states[out + 1 :]
        return self._refit(signal, timing, states, [*timing.greens_s[:out], *timing.greens_s[out + 1 :]])

    def insert(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Put in a stage of the pool."""
        state = self.rng.choice(self.timer.pools[signal])
        at = self.rng.randrange(len(timing.states) + 1)
        if len(timing.states) >= 6 or state in (timing.states[at - 1], timing.states[at % len(timing.states)]):
            return None
        greens_s = [*timing.greens_s[:at], self.rng.choice((6, 9, 14)), *timing.greens_s[at:]]
        return self._refit(signal, timing, (*timing.states[:at], state, *timing.states[at:]), greens_s)

    def exchange(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Put a stage of the pool in the place of another."""
        state = self.rng.choice(self.timer.pools[signal])
        at = self.rng.randrange(len(timing.states))
        if state in timing.states:
            return None
        states = (*timing.states[:at], state, *timing.states[at + 1 :])
        return self._refit(signal, timing, states, timing.greens_s)

    def propose(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Another timing that the formula likes, in the same cycle and at a like place in it."""
        found = self.timer.proposals(signal, self.maker.cycle_s(signal, timing))
        if not found:
            return None
        chosen = self.rng.choice(found)
        turn = self.rng.randrange(len(chosen.states))
        states, greens_s = chosen.states, chosen.greens_s
        return StageTiming(states[turn:] + states[:turn], greens_s[turn:] + greens_s[:turn], timing.offset_s)

    def stretch(self, signal: int, timing: StageTiming) -> StageTiming | None:
        """Another cycle at this signal alone: any where it is free, else half or twice the present one."""
        now_s = self.maker.cycle_s(signal, timing)
        if signal in self.free:
            step_s = self.rng.choice(_CYCLE_STEPS_S)
            return self.to_cycle(signal, timing, now_s + self.rng.choice((-1, 1)) * step_s)
        halves = [now_s * 2] if now_s % 2 else [now_s // 2, now_s * 2]
        return self.to_cycle(signal, timing, self.rng.choice(halves))

    def to_cycle(self, signal: int, timing: StageTiming, cycle_s: int) -> StageTiming | None:
        """The same stages in another cycle, the offset at the same share of it."""
        if not SHORTEST_CYCLE_S <= cycle_s <= LONGEST_CYCLE_S:
            return None
        now_s = self.maker.cycle_s(signal, timing)
        fitted = self.maker.fit(signal, timing, cycle_s, LEAST_GREEN_S)
        if fitted is None or not self.maker.is_sound(signal, fitted):
            return None
        return replace(fitted, offset_s=round(timing.offset_s * cycle_s / now_s) % cycle_s)

    def kinds(self) -> Mapping[str, Callable[[int, StageTiming], StageTiming | None]]:
        """Moves of one signal by name."""
        return {
            "shift": self.shift,
            "split": self.split,
            "order": self.order,
            "drop": self.drop,
            "insert": self.insert,
            "exchange": self.exchange,
            "propose": self.propose,
            "stretch": self.stretch,
        }

    def draw(self, kind: str, signal: int, timing: StageTiming) -> StageTiming | None:
        """A sound timing other than the present one, or None when this draw gave none."""
        moved = self.kinds()[kind](signal, timing)
        if moved is None or moved == timing or not self.maker.is_sound(signal, moved):
            return None
        return moved

    def _refit(
        self, signal: int, timing: StageTiming, states: tuple[str, ...], greens_s: list[int] | tuple[int, ...]
    ) -> StageTiming | None:
        own = self.maker.network.signals[signal]
        if any(states[n] == states[n - 1] for n in range(len(states))):
            return None
        if not must_serve(own) <= open_links(states, own.link_count):
            return None
        wanted = replace(timing, states=states, greens_s=tuple(greens_s))
        return self.maker.fit(signal, wanted, self.maker.cycle_s(signal, timing), LEAST_GREEN_S)
