"""The watch at the lamps counts what the referee counts, and leaves the authority's own programme alone."""

from __future__ import annotations

import pytest

from signals.watch import LampWatch
from tests.signals.test_safety import CROSS


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
