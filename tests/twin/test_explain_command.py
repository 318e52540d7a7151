"""`citytwin signals explain`: expected against happened, from a history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.twin import cycles
from twin.commands import explain as verb
from twin.commands.signals import app
from twin.store import Store


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty cycles of 5 s; flow n/8 veh/s on every edge in cycle n, 4 vehicles expected by each decision."""
    monkeypatch.setattr(verb, "find_city", lambda spec: spec)
    monkeypatch.setattr(verb, "load_network", lambda city: cycles.NETWORK)
    with Store(tmp_path / "run", cycles_per_segment=8) as store:
        for number in range(1, 31):
            store.append_cycle(cycles.record(number))
    return tmp_path / "run"


def test_each_signal_has_its_errors_and_each_decision_its_outcome(history: Path) -> None:
    result = CliRunner().invoke(app, ["explain", str(history), "--net", "town", "--signal", "J", "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    row = document["signals"]["J"]
    assert (row["decisions"], row["seen"]) == (30, 18)
    assert row["expected_veh"] == 4.0
    first = verb_decisions(history)[0]
    assert first["reason"] == "a queue of 4 veh"
    edges = len(verb.approaches_of(cycles.NETWORK).edge_index)
    assert first["served_veh"] == pytest.approx(edges * 60 * (1 + 13) / 2 / 8, rel=1e-5)
    assert document["decisions"][-1]["served_veh"] is None, "its horizon is not over"


def verb_decisions(history: Path) -> list[dict[str, object]]:
    arguments = ["explain", str(history), "--net", "town", "--signal", "J", "--last", "30", "--json"]
    listed = json.loads(CliRunner().invoke(app, arguments).stdout)["decisions"]
    assert isinstance(listed, list)
    return listed


def test_the_page_says_why_in_words(history: Path) -> None:
    page = CliRunner().invoke(app, ["explain", str(history), "--net", "town", "--signal", "J", "--last", "30"]).stdout
    assert "a queue of 4 veh" in page
    assert "not seen to its end" in page
    assert "expected 4.0 veh" in page
    assert "citytwin signals explain" in " ".join(CliRunner().invoke(app, ["explain", "--help"]).stdout.split())


def test_a_history_that_is_not_there_ends_with_two(history: Path) -> None:
    assert CliRunner().invoke(app, ["explain", str(history / "none"), "--net", "town"]).exit_code == 2
    assert CliRunner().invoke(app, ["explain", str(history), "--net", "town", "--signal", "Z"]).exit_code == 2
