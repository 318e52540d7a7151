"""The watch at the lamps counts what the referee counts, and leaves the authority's own programme alone."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signals.watch import Bystander, LampWatch
from tests.signals.strategies_signals import hostile_plans, signals
from tests.signals.test_safety import CROSS, NIGHT


def watched(*states, shipped=False):
    """Each state for 10 s; the first is taken as standing."""
    watch = LampWatch([CROSS])
    for n, state in enumerate(states):
        watch.look(10.0 * n, 0, state, shipped=shipped)
    return watch


@pytest.mark.parametrize(
    ("states", "rule"),
    [
        (["GgrG", "rgrG"], "yellow"),
        (["GgrG", "GgGG"], "conflict"),
        (["GgrG", "rrrr"], "yellow"),
    ],
)
def test_a_broken_rule_is_counted(states, rule):
    watch = watched(*states)
    assert watch.counts[rule] >= 1
    assert watch.total == len(watch.violations)


def test_a_good_change_is_not():
    assert watched("GgrG", "yyry", "rrrr", "rrGr").total == 0


def test_short_times_are_counted():
    watch = LampWatch([CROSS])
    for second, state in [(0, "rrrr"), (20, "GgrG"), (24, "yyry"), (26, "rrrr"), (27, "rrGr")]:
        watch.look(float(second), 0, state)
    assert set(watch.counts) == {"min green", "yellow", "intergreen", "pedestrian clearance"}


def test_the_shipped_programme_is_judged_for_conflicts_only():
    assert watched("GgrG", "rgrG", shipped=True).total == 0
    assert watched("GgrG", "GgGG", shipped=True).counts.keys() == {"conflict"}


def test_what_began_under_the_shipped_programme_still_counts_for_what_follows():
    watch = LampWatch([CROSS])
    watch.look(0.0, 0, "GgrG", shipped=True)
    watch.look(10.0, 0, "rrrr", shipped=True)
    watch.look(11.0, 0, "rrGr")
    assert watch.counts["intergreen"] >= 1


def seen(*states, signal=CROSS, **options):
    """(state, seconds) one after another, under a bystander."""
    watch, now_s = Bystander(signal, **options), 0.0
    for state, seconds in states:
        watch.look(now_s, state)
        now_s += seconds
    watch.finish(now_s)
    return dict(watch.counts)


@pytest.mark.parametrize(
    ("states", "counts"),
    [
        ([("GgrG", 20), ("yyry", 3), ("rrrr", 4), ("rrGr", 20)], {}),
        ([("rrrr", 20), ("GgrG", 4), ("yyry", 3), ("rrrr", 9)], {"min green": 3}),
        ([("GgrG", 20), ("rgrG", 9)], {"yellow": 1}),
        ([("GgrG", 20), ("ygrG", 2), ("rgrG", 9)], {"yellow": 1}),
        ([("GgrG", 20), ("GgGG", 9)], {"conflict": 1}),
        ([("GgrG", 20), ("yyry", 3), ("rrGr", 9)], {"intergreen": 3}),
        ([("rrGr", 20), ("rryr", 3), ("GgrG", 9)], {"intergreen": 3}),
    ],
)
def test_the_bystander_counts_links_that_break_a_rule(states, counts):
    assert seen(*states) == counts


def test_the_bystander_counts_reds_that_last_too_long():
    states = [("GgrG", 100), ("yyry", 3), ("rrrr", 4), ("rrGr", 20)]
    assert seen(*states, longest_red_s=107.0) == {}
    assert seen(*states, longest_red_s=106.0) == {"max red": 1}
    assert seen(("rrGr", 150), longest_red_s=100.0) == {"max red": 3}


def test_the_bystander_lets_lamps_go_off_and_come_back():
    night = [("GgrG", 20), ("yyry", 3), ("rrrr", 4), ("oooO", 60), ("rrrr", 7), ("GgrG", 9)]
    assert seen(*night, signal=NIGHT) == {}
    assert seen(("oooO", 60), ("rrrr", 2), ("GgrG", 9), signal=NIGHT) == {"intergreen": 3}
    assert seen(("rrrr", 60), ("rroG", 9), signal=NIGHT) == {"intergreen": 1}


@settings(max_examples=150)
@given(st.data())
def test_the_bystander_finds_what_the_outside_referee_finds(shared_data, data):
    bench_file = shared_data.parent / "bench" / "signals_bench.py"
    if not bench_file.is_file():
        pytest.skip("needs ../shared/bench/signals_bench.py")
    spec = importlib.util.spec_from_file_location("signals_bench", bench_file)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    signal = data.draw(signals())
    _, plan = data.draw(hostile_plans(signal))
    states = np.array([[c in "GgyY" for c in p.state] for p in signal.programme.phases])
    together = np.einsum("pi,pj->ij", states, states) > 0
    description = SimpleNamespace(n=signal.link_count, ok=~signal.foes | together, yellow=signal.yellow_s)
    referee, watch = bench.Referee({"S": description}, min_green=5.0), Bystander(signal)
    for second in range(120):
        state = plan.state_at(plan.valid_from_s + second)
        referee.look(float(second), "S", state)
        watch.look(float(second), state)
    assert watch.counts["yellow"] >= referee.v_yel
    assert watch.counts["min green"] == referee.v_min
    assert watch.counts["conflict"] >= referee.v_con
    assert (watch.counts["conflict"] > 0) >= (referee.v_con > 0)
