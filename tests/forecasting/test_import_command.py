"""`citytwin forecast import`, and the commands that take what it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from forecasting.series_folder import read_folder
from tests.forecasting.cities import MONDAY, drawn_city, write_city, write_windows
from tests.grids import draw_grid
from tests.twin.loop_history import Reading, write_history
from twin.cli import app

RUN = CliRunner()
STAMPS = "2026-01-05T00:00:00", "2026-01-05T00:05:00"


def run_import(*arguments: object, code: int = 0) -> str:
    done = RUN.invoke(app, ["forecast", "import", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def write_csv(path: Path, **columns: list[float]) -> Path:
    pd.DataFrame({"time": STAMPS, **columns}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A week of a drawn city, imported from a CSV with times in which place d8 never reports."""
    folder = tmp_path_factory.mktemp("town")
    city = drawn_city(days=6, nodes=9)
    frame = pd.DataFrame(city.values, columns=[f"d{k}" for k in range(9)])
    frame["d8"] = np.nan
    frame.insert(0, "time", pd.to_datetime(city.start_s, unit="s"))
    frame.to_csv(folder / "counts.csv", index=False)
    options = ["--unit", "flow=veh/10 min", "--time-zone", "Asia/Shanghai", "--country", "CN"]
    options += ["--licence", "CC0", "--json"]
    document = json.loads(run_import(folder / "counts.csv", "--out", folder / "north", *options))
    assert (document["places"], document["rows"], document["step_s"]) == (9, len(city.values), 600)
    assert document["channels"] == {"flow": {"unit": "veh/10 min", "missing_frac": pytest.approx(0.13, abs=0.02)}}
    assert (document["time_zone"], document["country"], document["licence"]) == ("Asia/Shanghai", "CN", "CC0")
    assert read_folder(folder / "north").series().meta["country"] == "CN"
    assert (document["first"], document["last"]) == ("2026-01-05T00:00:00", "2026-01-10T23:50:00")
    return folder


def test_an_unknown_country_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    counts = write_csv(tmp_path / "counts.csv", a=[1.0, 2.0])
    assert "'Atlantis'" in run_import(counts, "--out", tmp_path / "north", "--country", "Atlantis", code=2)
    assert not (tmp_path / "north").exists()


def test_a_folder_is_forecast_under_the_names_of_its_places(town: Path) -> None:
    out = town / "next.csv"
    done = RUN.invoke(app, ["forecast", "predict", str(town / "north"), "--model", "ridge", "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = pd.read_csv(out)
    assert sorted(set(told["place"])) == [f"d{k}" for k in range(9)]
    assert told["time"].iloc[0] == "2026-01-11T00:00:00"
    done = RUN.invoke(app, ["forecast", "sense", str(town / "north"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(out)["place"]) == {"d8"}


def test_bench_and_train_give_the_same_on_a_folder_as_on_the_file(tmp_path: Path) -> None:
    city = drawn_city(days=6, nodes=4)
    file = write_city(tmp_path / "town.npz", city)
    write_windows(tmp_path / "windows.npz", city)
    run_import(file, "--out", tmp_path / "town")
    made = []
    for series in (file, tmp_path / "town"):
        out = tmp_path / "forecasts.npz"
        arguments = [str(series), "--windows", str(tmp_path / "windows.npz"), "--out", str(out)]
        done = RUN.invoke(app, ["forecast", "bench", *arguments])
        assert done.exit_code == 0, done.output
        with np.load(out) as archive:
            made.append(archive["q"])
    np.testing.assert_array_equal(made[0], made[1])
    train = ["--name", "new", "--steps", "2", "--hidden", "8", "--models", str(tmp_path / "models"), "--json"]
    done = RUN.invoke(app, ["forecast", "train", str(tmp_path / "town"), *train])
    assert done.exit_code in (0, 1), done.output
    assert json.loads(done.stdout)["trained_on"][0]["licence"] == "drawn"


def test_sumo_output_gets_its_graph_from_the_net(tmp_path: Path) -> None:
    net = draw_grid(tmp_path / "net.net.xml", 2, 100)
    edges = (
        '<edge id="A0A1" sampledSeconds="9" left="3" arrived="0" speed="10"/>'
        '<edge id="A1B1" sampledSeconds="0" left="0" arrived="0"/>'
    )
    (tmp_path / "day.xml").write_text(f'<meandata><interval begin="0" end="900">{edges}</interval></meandata>')
    options = ("--net", net, "--epoch", "2026-01-05T06:00:00", "--daily", "--channel", "speed", "--json")
    document = json.loads(
        run_import(tmp_path / "day.xml", tmp_path / "day.xml", "--out", tmp_path / "town", *options)
    )
    assert (document["edges"], document["rows"], document["target"]) == (1, 2, "speed")
    town = read_folder(tmp_path / "town")
    assert (town.start_s - MONDAY).tolist() == [6 * 3600, 30 * 3600]
    assert town.channels["flow"].tolist() == [[12, 0], [12, 0]]
    assert "is there already" in run_import(
        tmp_path / "day.xml", tmp_path / "day.xml", "--out", tmp_path / "x", code=2
    )


def test_districts_are_joined_and_shown_as_a_table(tmp_path: Path) -> None:
    north, south = write_csv(tmp_path / "north.csv", a=[1, 2]), write_csv(tmp_path / "south.csv", b=[3, -1])
    table = run_import(north, south, "--out", tmp_path / "town", "--null", "-1", "--unit", "flow=veh/h")
    assert "flow (target)" in table
    assert "2 places" in table
    assert "2 rows of 300 s from 2026-01-05T00:00:00 to 2026-01-05T00:05:00" in " ".join(table.split())
    whole = read_folder(tmp_path / "town")
    np.testing.assert_array_equal(whole.channels["flow"], [[1, 3], [2, np.nan]])
    run_import(tmp_path / "town", "--out", tmp_path / "town", "--licence", "CC0")
    assert read_folder(tmp_path / "town").licence == "CC0"


def test_bad_input_ends_with_two_and_writes_nothing(tmp_path: Path) -> None:
    counts, out = write_csv(tmp_path / "counts.csv", a=[1, 2]), tmp_path / "town"
    (tmp_path / "notes.txt").write_text("")
    for arguments, named in (
        ([tmp_path / "none.csv"], "none.csv: no such file"),
        ([tmp_path / "notes.txt"], "ending '.txt'"),
        ([tmp_path], "meta.json is missing"),
        ([counts, "--time-zone", "Mars/Olympus"], "Mars/Olympus"),
        ([counts, "--unit", "speed=km/h"], "--unit speed=km/h"),
        ([counts, "--net", draw_grid(tmp_path / "net.net.xml", 2, 100)], "place 'a' is no edge"),
        ([counts, "--net", tmp_path / "nowhere"], "nowhere"),
    ):
        assert named in run_import(*arguments, "--out", out, code=2)
    assert not out.exists()


def test_the_history_of_a_run_is_imported(tmp_path: Path) -> None:
    write_history(tmp_path / "run", 200, [Reading(at, at) for at in range(5, 200, 5)])
    for places, names in (("edges", 4), ("detectors", 1)):
        options = ("--step", "60", "--places", places, "--time-zone", "Asia/Shanghai", "--json")
        document = json.loads(run_import(tmp_path / "run", "--out", tmp_path / "town", *options))
        assert (document["places"], document["rows"], document["step_s"]) == (names, 3 if names == 4 else 2, 60)
    until = pd.Timestamp(document["first"], tz="Asia/Shanghai") + pd.Timedelta(seconds=100)
    options = ("--step", "60", "--places", "edges", "--until", until.strftime("%Y-%m-%dT%H:%M:%S%z"), "--json")
    assert json.loads(run_import(tmp_path / "run", "--out", tmp_path / "town", *options))["rows"] == 1
