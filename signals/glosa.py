"""Green light optimal speed advice: the speed at which a vehicle that enters an approach meets green."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from networks.graph import PASSENGER, STRAIGHT, Network
from signals.lamps import GREEN
from signals.plan import ApprovedPlan, SignalPlan

_SLOWEST_FRAC = 0.5  # of the limit: slower advice is not followed and holds up those behind
_SHORTEST_M = 80.0  # below, the advice comes too late to be of use
_AFTER_GREEN_S = 2.0  # arrive when those in front have started
_LOOK_AHEAD_S = 120.0


class SpeedHint(NamedTuple):
    """Advice to the vehicles that enter an approach now."""

    edge: int
    speed_mps: float


def glosa(plans: Sequence[ApprovedPlan], network: Network, now_s: float) -> tuple[SpeedHint, ...]:
    """Advised speeds of the approaches whose vehicles would meet red at the limit and green when a little slower.

    Only what the plans promise is used: where a plan ends before the vehicle arrives there is no advice.
    """
    hints = []
    for approved in plans:
        plan = approved.plan
        for edge, link in _approaches(network, plan.signal).items():
            speed = _speed_for(
                plan,
                link,
                now_s,
                float(network.edges.length_m[edge]),
                float(network.edges.speed_limit_mps[edge]),
            )
            if speed is not None:
                hints.append(SpeedHint(edge, speed))
    return tuple(sorted(hints))


def _approaches(network: Network, signal: int) -> dict[int, int]:
    """Per approach edge the signal link that leads most of its cars: straight on where there is one."""
    links: dict[int, tuple[bool, int]] = {}
    for link, movements in enumerate(network.signals[signal].link_movements):
        for movement in movements:
            lane = network.movements.from_lane[movement]
            if not network.lanes.allowed[lane] & PASSENGER:
                continue
            turns_off = bool(network.movements.turn[movement] != STRAIGHT)
            edge = int(network.lanes.edge[lane])
            links[edge] = min(links.get(edge, (True, link)), (turns_off, link))
    return {edge: link for edge, (_, link) in links.items()}


def _speed_for(plan: SignalPlan, link: int, now_s: float, length_m: float, limit_mps: float) -> float | None:
    """The advised speed, or None where driving at the limit is right or nothing is known."""
    if length_m < _SHORTEST_M or limit_mps <= 0:
        return None
    arrival_s = now_s + length_m / limit_mps
    last_s = min(now_s + length_m / (_SLOWEST_FRAC * limit_mps), now_s + _LOOK_AHEAD_S, plan.valid_until_s)
    if arrival_s >= last_s or arrival_s < plan.valid_from_s or plan.state_at(arrival_s)[link] in GREEN:
        return None
    at_s = arrival_s
    while at_s < last_s:
        if plan.state_at(at_s)[link] in GREEN:
            speed_mps = length_m / (at_s + _AFTER_GREEN_S - now_s)
            return speed_mps if speed_mps >= _SLOWEST_FRAC * limit_mps else None
        at_s += 1.0
    return None
