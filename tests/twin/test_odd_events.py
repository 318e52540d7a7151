"""What is usual at a place convicts nobody; what begins there to be odd does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import betaln

from twin.odd_events import OddEvents

ENOUGH = 8.6  # log-likelihood ratio that convicts where one of a hundred loops lies


def feed(events: OddEvents, odd: list[bool], *, lied_frac: float = 0.5, at_least_frac: float = 0.0) -> float:
    """One event after the other at loop 0; the highest sum on the way."""
    one = np.zeros(1, np.int32)
    highest = 0.0
    for is_odd in odd:
        events.note(one, np.array([is_odd]), lied_frac, at_least_frac=at_least_frac)
        highest = max(highest, float(events.odds[0]))
    return highest


def test_the_sum_of_one_lie_is_the_beta_binomial_ratio() -> None:
    """Odd and usual events in turn, few enough that no bound is met."""
    events = OddEvents(1, 2.0, 6.0)
    odd = [True, False, True, True, False, True]
    honest = betaln(2.0 + sum(odd), 6.0 + len(odd) - sum(odd)) - betaln(2.0, 6.0)
    assert feed(events, odd) == pytest.approx(len(odd) * np.log(0.5) - honest)


@pytest.mark.parametrize(("share", "convicted"), [(0.0, 0.0), (0.005, 0.0005), (0.01, 0.002), (0.02, 0.01)])
def test_few_odd_events_convict_hardly_anybody(share: float, convicted: float) -> None:
    """Of twenty thousand honest loops, over 300 events each: chance alone puts some odd ones close together."""
    loops, rng = np.arange(20_000, dtype=np.int32), np.random.default_rng(1)
    events, highest = OddEvents(len(loops), 0.1, 20.0), np.zeros(len(loops))
    for _ in range(300):
        events.note(loops, rng.random(len(loops)) < share, 0.5)
        highest = np.maximum(highest, events.odds)
    assert (highest >= ENOUGH).mean() <= convicted


@pytest.mark.parametrize("seed", range(5))
def test_a_lie_convicts_soon_after_it_began_and_is_forgiven_when_it_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = OddEvents(2, 0.1, 20.0)
    feed(events, (rng.random(60) < 0.005).tolist())
    assert feed(events, (rng.random(30) < 0.5).tolist()) > ENOUGH
    assert events.seen_odd[0] <= events.seen[0]
    feed(events, [False] * 60)
    assert events.odds[0] < 0.0 < events.trust[0]
    assert events.odds[1] == events.trust[1] == 0.0


def test_what_is_odd_everywhere_tells_nothing() -> None:
    assert feed(OddEvents(1, 0.1, 20.0), [True] * 40, at_least_frac=0.9) == 0.0
