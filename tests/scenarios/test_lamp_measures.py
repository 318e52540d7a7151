"""Waiting at red, told from lamps."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from scenarios.lamp_measures import red_spells, walk_loss_s, walker_delay_s


def test_red_spells_are_the_stretches_without_green():
    assert red_spells(np.array([False, False, True, False, True, True, False])).tolist() == [2, 1, 1]
    assert red_spells(np.ones(5, np.bool_)).tolist() == []
    assert red_spells(np.zeros(4, np.bool_)).tolist() == [4]


def test_walkers_wait_what_somebody_waits_who_comes_at_any_second():
    street, square = (SimpleNamespace(pedestrian=np.array(links)) for links in ([False, True], [True, False]))
    shown = [["Gr", "Gr", "rG", "rG", "Gr"], ["rG", "rG", "Gr", "Gr", "Gr"]]
    waits = [[2, 1, 0, 0, 1], [2, 1, 0, 0, 0]]
    expected_s = np.mean([sum(w - 0.5 for w in wait if w) / 5 for wait in waits])
    assert walker_delay_s([street, square], shown) == pytest.approx(expected_s)
    assert walker_delay_s([street], [[]]) is None
    assert walker_delay_s([SimpleNamespace(pedestrian=np.array([False]))], [["G"]]) is None


def test_whoever_walks_tells_the_loss_and_only_where_nobody_does_the_lamps_tell_it(tmp_path: Path) -> None:
    trips, street = tmp_path / "trips.xml", SimpleNamespace(pedestrian=np.array([True]))
    trips.write_text("<tripinfos/>")
    assert walk_loss_s(trips, [street], [["r", "r", "G"]]) == pytest.approx(4.0 / 6.0)
    trips.write_text('<tripinfos><personinfo id="p"><walk timeLoss="3.5"/></personinfo></tripinfos>')
    assert walk_loss_s(trips, [street], [["r", "r", "G"]]) == 3.5
