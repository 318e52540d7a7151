"""`citytwin calibrate` as a user meets it: a city with counts becomes one that meets them."""

from __future__ import annotations

import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from networks.city import CityFolder, read_city
from twin.cli import app

USUAL = {"left0A0": 650, "right1B1": 320, "bottom0A0": 350, "bottom1B0": 260}  # a vehicle each 5 to 14 s


@pytest.fixture
def counted(square: CityFolder, tmp_path: Path) -> Path:
    """The square with counts of a week at its four entrances, two of them far from its demand."""
    folder = tmp_path / "counted"
    shutil.copytree(square.folder, folder)
    (folder / "loops.csv").write_text("loop_id,edge\n" + "".join(f"L{n},{e}\n" for n, e in enumerate(USUAL)))
    rows = ["date,hour,loop_id,count"]
    for day in range(5):
        for hour in (6, 7, 8):
            for n, usual in enumerate(USUAL.values()):
                rows.append(f"{date(2026, 3, 2) + timedelta(day)},{hour},L{n},{usual + (-10, 0, 10)[day % 3]}")
    (folder / "loop_counts.csv").write_text("\n".join(rows) + "\n")
    return folder


def run_verb(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["calibrate", *words])
    return result.exit_code, result.stdout + result.stderr


def test_the_new_city_meets_the_counts_and_can_be_read(counted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, told = run_verb(str(counted), "--from", "7", "--to", "9", "--out", str(out), "--json")
    assert code == 0, told
    document = json.loads((out / "calibration.json").read_text())
    assert document["fitted"] == {**document["fitted"], "geh_lt5_share": 1.0, "n": 8}
    assert document["held_out"]["n"] == 0
    assert 0.97 < document["simulated_over_counted"] < 1.03
    for row in document["loops"]:
        assert row["simulated"] == pytest.approx(USUAL[row["edge"]], rel=0.08)
    city = read_city(out)
    assert (city.name, city.begin_s, city.end_s) == ("square-weekday", 7 * 3600.0, 9 * 3600.0)
    assert {path.name for path in city.routes} == {"demand.rou.xml", "timetabled.rou.xml"}
    assert not list(out.glob("way-*"))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--day-type", "Sunday"), "no such day has counts"),
        (("--from", "9", "--to", "8"), "hours must rise"),
        (("--from", "12", "--to", "14"), "no loop has counts"),
    ],
)
def test_what_cannot_be_done_is_said(counted: Path, tmp_path: Path, words: tuple[str, ...], named: str) -> None:
    code, told = run_verb(str(counted), *words, "--out", str(tmp_path / "out"))
    assert code == 2
    assert named in told


def test_nothing_is_written_over(counted: Path) -> None:
    code, told = run_verb(str(counted), "--out", str(counted))
    assert code == 2
    assert "not empty" in told
