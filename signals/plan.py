"""Plans: what a controller proposes and what leaves the house.

A plan is the complete lamp sequence of one signal from `valid_from_s` on, every intergreen spelt out, so that
the proof of safety and the execution in the street read the same thing. Times are whole seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from networks.errors import UnsafePlanError


@dataclass(frozen=True, slots=True)
class LampStep:
    """One lamp state (a character a link: G g y r, also u o s O) and how long it stands."""

    state: str
    duration_s: float


@dataclass(frozen=True, slots=True)
class SignalPlan:
    """The lamps of one signal from `valid_from_s`.

    A rolling plan (`repeats` False) runs its steps once and lets the last state stand until `valid_until_s`.
    A cyclic plan (`repeats` True) repeats them; at time t it is at second (t - offset_s) mod cycle_s.
    """

    signal: int  # dense index
    signal_id: str
    steps: tuple[LampStep, ...]
    valid_from_s: float
    valid_until_s: float
    repeats: bool = False
    offset_s: float = 0.0
    source: str = ""  # controller that made it
    reason: str = ""  # which queues and arrivals it serves

    @property
    def cycle_s(self) -> float:
        return sum(s.duration_s for s in self.steps)

    def state_at(self, time_s: float) -> str:
        """The lamps at a time at or after valid_from_s."""
        into_s = (time_s - self.offset_s) % self.cycle_s if self.repeats else time_s - self.valid_from_s
        for step in self.steps:
            if into_s < step.duration_s:
                return step.state
            into_s -= step.duration_s
        return self.steps[-1].state


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan with what its maker expects of it, so that expected can be held against happened."""

    plan: SignalPlan
    cost_veh_s: float  # expected delay over the horizon at this junction
    next_best_veh_s: float  # the same for the best alternative
    served_veh: float  # vehicles expected over the stop lines within the horizon
    priority: int = 0  # arbiter: emergency 2, transit 1, optimiser 0


class Seal:
    """What `signals.safety.approve` puts on the one plan it has just proven."""

    __slots__ = ("plan",)

    def __init__(self, plan: SignalPlan) -> None:
        self.plan = plan


@dataclass(frozen=True, slots=True)
class ApprovedPlan:
    """A plan that `signals.safety.approve` has proven. Made nowhere else: without the seal of this very plan the
    constructor raises UnsafePlanError."""

    plan: SignalPlan
    version: int
    approved_at_s: float
    proof: str  # fingerprint of plan, signal and lamps that the proof was about
    _token: object = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self._token, Seal) or self._token.plan is not self.plan:
            raise UnsafePlanError([f"plan for {self.plan.signal_id} was not approved"])
