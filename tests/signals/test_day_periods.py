"""Breaks of the day: where flows change, and only there."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.errors import InputError
from signals.day_periods import find_breaks


def profile_of(*levels: tuple[int, float]) -> np.ndarray:
    """(T, 2): two approaches with the flows of each level for so many rows, the second with the reverse."""
    first = np.concatenate([np.full(rows, level) for rows, level in levels])
    return np.stack([first, 300.0 - first], axis=1)


def test_even_flow_is_one_period() -> None:
    assert find_breaks(profile_of((24, 100.0)), least=6, most=8) == ()


def test_chance_alone_makes_no_period() -> None:
    noisy = np.random.default_rng(5).poisson(40.0, (36, 12)).astype(float)
    assert find_breaks(noisy, least=6, most=8) == ()


def test_a_step_is_found_where_it_is() -> None:
    assert find_breaks(profile_of((10, 60.0), (14, 200.0)), least=6, most=8) == (10,)
    assert find_breaks(profile_of((8, 60.0), (9, 200.0), (13, 90.0)), least=6, most=8) == (8, 17)


def test_so_many_periods_as_were_asked_for() -> None:
    flows = profile_of((8, 60.0), (9, 200.0), (13, 90.0))
    assert len(find_breaks(flows, least=6, most=8, exactly=2)) == 1
    assert find_breaks(flows, least=6, most=8, exactly=1) == ()
    with pytest.raises(InputError, match="6 periods"):
        find_breaks(flows, least=6, most=8, exactly=6)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=14), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=60)
def test_the_cut_is_the_best_of_all(counts: list[int], least: int, wanted: int) -> None:
    """Against every cut of two periods, on the squared deviations that the search weighs."""
    flows = np.array(counts, float)[:, None]
    if wanted * least > len(flows):
        return
    breaks = find_breaks(flows, least=least, most=3, exactly=wanted)
    ends = [0, *breaks, len(flows)]
    assert all(b - a >= least for a, b in pairwise(ends)) or wanted == 1

    def spread(*cuts: int) -> float:
        return sum(float(np.var(flows[a:b]) * (b - a)) for a, b in pairwise([0, *cuts, len(flows)]))

    if wanted == 2:
        best = min(spread(cut) for cut in range(least, len(flows) - least + 1))
        assert spread(*breaks) == pytest.approx(best, abs=1e-6)
