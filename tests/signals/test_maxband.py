"""Green waves: closed forms of two signals, and no offsets that do better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from signals.maxband import Window, widest_bands

CYCLE_S = 80


def pair(travel_s: float, green_s: float = CYCLE_S / 2) -> tuple[list[Window], list[Window]]:
    """Two signals, both ways open together, `travel_s` apart."""
    out = [Window(0, 0.0, green_s, 0.0), Window(1, 0.0, green_s, travel_s)]
    back = [Window(1, 0.0, green_s, 0.0), Window(0, 0.0, green_s, travel_s)]
    return out, back


def band_s(ways: Sequence[Window], offsets: dict[int, int], cycle_s: int) -> int:
    """The longest run of seconds at which somebody may set off and meet nothing but green, cycle after cycle."""
    begins = np.arange(cycle_s)
    free = np.ones(cycle_s, bool)
    for way in ways:
        into = (begins + way.travel_s - offsets[way.signal] - way.begin_s) % cycle_s
        free &= into < way.green_s
    ends = np.flatnonzero(~free)
    return cycle_s if not len(ends) else int(np.diff([*ends, ends[0] + cycle_s]).max()) - 1


def test_half_a_cycle_apart_the_whole_green_is_band() -> None:
    bands = widest_bands(*pair(CYCLE_S / 2), CYCLE_S)
    assert (bands.out_s, bands.back_s) == pytest.approx((CYCLE_S / 2, CYCLE_S / 2))
    assert bands.offset_s[1] == pytest.approx(CYCLE_S / 2)


@example(158, 17)  # called infeasible by HiGHS, presolved
@given(st.integers(0, 200), st.integers(10, 40))
@settings(max_examples=20, phases=[Phase.explicit, Phase.generate])
def test_two_signals_lose_twice_the_way_to_the_next_half_cycle(travel_s: int, green_s: int) -> None:
    """Bands out and back move against each other: g - |T - o| and g - |T + o|, so T + T mod C is lost in all."""
    bands = widest_bands(*pair(float(travel_s), float(green_s)), CYCLE_S)
    lost_s = min(2 * travel_s % CYCLE_S, -2 * travel_s % CYCLE_S)
    assert bands.out_s + bands.back_s == pytest.approx(max(green_s, 2 * green_s - lost_s), abs=1e-4)


def test_one_way_the_narrowest_green_is_the_band() -> None:
    out = [Window(n, 5.0 * n, green, 17.0 * n) for n, green in enumerate((40.0, 25.0, 33.0))]
    bands = widest_bands(out, [], CYCLE_S)
    assert (bands.out_s, bands.back_s) == pytest.approx((25.0, 0.0))


@given(st.data())
@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
def test_no_offsets_do_better_and_bands_are_as_wide_as_told(data: st.DataObject) -> None:
    cycle_s, count = 30, 3
    green = st.integers(6, 20)
    begin = st.integers(0, cycle_s - 1)
    way_s = [0, *np.cumsum([data.draw(st.integers(0, 40)) for _ in range(count - 1)]).tolist()]
    out = [Window(n, data.draw(begin), data.draw(green), way_s[n]) for n in range(count)]
    back = [Window(n, data.draw(begin), data.draw(green), way_s[-1] - way_s[n]) for n in reversed(range(count))]
    bands = widest_bands(out, back, cycle_s)

    def both(offsets: dict[int, int]) -> int:
        return band_s(out, offsets, cycle_s) + band_s(back, offsets, cycle_s)

    best = max(both({0: 0, 1: a, 2: b}) for a in range(cycle_s) for b in range(cycle_s))
    assert bands.out_s + bands.back_s == pytest.approx(best, abs=1e-4)
    whole = {n: round(o) for n, o in bands.offset_s.items()}
    assert both(whole) >= bands.out_s + bands.back_s - 2.0 * count


def test_an_answer_is_found_where_the_solver_fails_at_first() -> None:
    """Narrow greens and ways of 32 and 24 s, for which HiGHS reports a solve error unless it leaves out presolve."""
    out = [Window(0, 26.0, 16.0, 0.0), Window(1, 28.0, 8.0, 32.0), Window(2, 3.0, 13.0, 56.0)]
    back = [Window(2, 13.0, 15.0, 0.0), Window(1, 8.0, 9.0, 24.0), Window(0, 2.0, 18.0, 56.0)]
    bands = widest_bands(out, back, 30.0)
    assert bands.out_s + bands.back_s == pytest.approx(11.0)
