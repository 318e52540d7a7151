"""`citytwin run` as anybody calls it: one document, three controls over the same vehicles, honest exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from networks.city import CityFolder
from twin.archive import open_store

ROOT = Path(__file__).resolve().parents[2]


def citytwin(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twin.cli", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {"CITYTWIN_CYCLE_S": "5", "CITYTWIN_DEADLINE_S": "60"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(square: CityFolder, tmp_path_factory: pytest.TempPathFactory):
    """(exit code, document, history folder) of one run of two days."""
    history = tmp_path_factory.mktemp("runs") / "history"
    done = citytwin(
        *("run", "--city", square.folder, "--duration", 60, "--seeds", 2, "--seed", 7),
        *("--no-page", "--json", "--store", history),
    )
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout), history


def rows_of(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["control"]: row for row in document["rows"]}


def test_the_document_has_what_others_rely_on(ran):
    _, document, _ = ran
    assert document["city"] == "square"
    assert document["seeds"] == [7, 8]
    assert set(document["twin_error"]) >= {"flow_geh_lt5_share", "speed_rmse_mps", "queue_mae_veh"}
    assert set(document["cycle_ms"]) >= {"p50", "p99"}
    assert 0 < document["cycle_ms"]["p50"] <= document["cycle_ms"]["p99"]
    assert document["wall_s"] > 0
    assert [row["control"] for row in document["rows"]] == ["shipped", "actuated", "citytwin"]


def test_every_control_had_the_same_vehicles_and_counts_each_once(ran):
    rows = rows_of(ran[1])
    assert len({row["vehicles"] for row in rows.values()}) == 1
    for row in rows.values():
        assert row["vehicles"] == row["arrived"] + row["running"] + row["never_inserted"] > 0
        assert len(row["per_seed"]) == 2
        assert row["mean_delay_s"] == pytest.approx(sum(row["per_seed"]) / 2, abs=0.01)
        assert row["per_seed"][0] != row["per_seed"][1], "two seeds are two days"


def test_nothing_unsafe_was_seen_and_the_exit_code_says_who_won(ran):
    code, document, _ = ran
    assert document["safety_violations"] == 0
    delay_s = {control: row["mean_delay_s"] for control, row in rows_of(document).items()}
    best = delay_s["citytwin"] < min(delay_s["shipped"], delay_s["actuated"])
    assert code == (0 if best else 1)


def test_the_history_of_each_day_and_the_result_are_kept(ran):
    _, document, history = ran
    assert json.loads((history / "result.json").read_text()) == document
    for seed in document["seeds"]:
        with open_store(history / f"seed{seed}") as archive:
            assert archive.cycles() == tuple(range(1, 13))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--city", "atlantis"), "atlantis"),
        (("--duration", "601"), "600 s"),
        (("--duration", "3"), "--duration"),
        (("--seeds", "0"), "--seeds"),
    ],
)
def test_bad_input_ends_with_code_2_and_one_line_naming_it(square, arguments, named):
    done = citytwin("run", *(() if "--city" in arguments else ("--city", square.folder)), *arguments, "--no-page")
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_named(square):
    done = citytwin("run", "--city", square.folder, "--no-page", CITYTWIN_CYCLE_S="often")
    assert done.returncode == 2
    assert "CITYTWIN_CYCLE_S" in done.stderr


def test_a_city_without_its_network_is_named(square, tmp_path):
    described = (square.folder / "city.toml").read_text().replace("net.net.xml", "gone.net.xml")
    (tmp_path / "city.toml").write_text(described)
    done = citytwin("run", "--city", tmp_path, "--no-page")
    assert done.returncode == 2
    assert "gone.net.xml" in done.stderr
