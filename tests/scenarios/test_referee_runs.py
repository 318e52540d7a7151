"""What the benchmarks make of an outside referee's runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.referee_runs import Ledger, find_scenario, parse_seeds
from networks.errors import CityError


def test_a_series_goes_on_where_it_stopped(tmp_path: Path):
    path = tmp_path / "runs.jsonl"
    first = Ledger(path)
    first.add({"scenario": "a", "label": "x", "seed": 2, "delay": 4.0})
    first.add({"scenario": "a", "label": "x", "seed": 1, "delay": 3.0})
    first.add({"scenario": "a", "label": "x", "seed": 3, "error": "no"})
    again = Ledger(path)
    assert set(again.rows) == {("a", "x", 1), ("a", "x", 2), ("a", "x", 3)}
    assert [r["delay"] for r in again.of("a", "x")] == [3.0, 4.0]
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 3


def test_a_config_is_read_with_absolute_paths(tmp_path: Path):
    config = tmp_path / "town.sumocfg"
    config.write_text(
        '<configuration><input><net-file value="n.net.xml"/><route-files value="a.rou.xml, b.rou.xml"/></input>'
        '<time><begin value="60"/><end value="360"/></time></configuration>'
    )
    scenario = find_scenario(str(config), tmp_path / "bench" / "referee.py", tmp_path)
    assert scenario.name == "town"
    assert scenario.routes == (tmp_path / "a.rou.xml", tmp_path / "b.rou.xml")
    assert (scenario.begin_s, scenario.end_s) == (60.0, 360.0)
    with pytest.raises(CityError, match="no such scenario"):
        find_scenario("nowhere", tmp_path / "bench" / "referee.py", tmp_path)


@pytest.mark.parametrize(("text", "seeds"), [("3", [3]), ("1,4", [1, 4]), ("2-4", [2, 3, 4])])
def test_seeds_are_read(text: str, seeds: list[int]):
    assert parse_seeds(text) == seeds
