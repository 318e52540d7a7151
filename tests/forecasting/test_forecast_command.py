from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.forecasting.cities import drawn_city, write_city, write_windows
from twin.cli import app

RUN = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cities")
    for quantity in ("flow", "speed"):
        city = drawn_city(days=6, nodes=4, quantity=quantity)
        write_city(folder / f"{quantity}.npz", city)
        write_windows(folder / f"{quantity}_windows.npz", city)
    return folder


@pytest.mark.parametrize("quantity", ["flow", "speed"])
def test_bench_writes_what_a_referee_scores(folder: Path, quantity: str) -> None:
    out = folder / f"{quantity}_forecasts.npz"
    arguments = [str(folder / f"{quantity}.npz"), "--windows", str(folder / f"{quantity}_windows.npz")]
    done = RUN.invoke(app, ["forecast", "bench", *arguments, "--model", "shipped", "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert sum(document["producers"].values()) == document["windows"] == 60
    with np.load(out) as made:
        assert made["pred"].shape == (60, 12, 4)
        assert made["q"].shape == (60, 12, 4, 7)
        assert made["levels"].tolist() == [0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95]
        assert ("p_cong" in made.files) == (quantity == "speed")
        assert (np.diff(made["q"], axis=-1) >= 0).all()


def test_bench_forecasts_short_windows_of_a_series_in_short_runs(tmp_path: Path) -> None:
    """Recorded three hours a day: no 24 steps follow each other, and the referee's windows have 8 in and 4 out."""
    whole = drawn_city(days=12, nodes=5)
    recorded = (np.arange(len(whole.values)) % 144 >= 42) & (np.arange(len(whole.values)) % 144 < 60)
    city = replace(whole, values=whole.values[recorded], start_s=whole.start_s[recorded])
    assert not len(city.window_starts())
    series = write_city(tmp_path / "short.npz", city)
    windows = write_windows(tmp_path / "windows.npz", city, count=20, steps_in=8, steps_out=4)
    error = {}
    for name in ("shipped", "profile"):
        out = tmp_path / f"{name}.npz"
        arguments = [str(series), "--windows", str(windows), "--model", name, "--out", str(out), "--json"]
        done = RUN.invoke(app, ["forecast", "bench", *arguments])
        assert done.exit_code == 0, done.output
        starts = city.window_starts(12)[-20:]
        truth = city.values[starts[:, None] + 8 + np.arange(4)]
        with np.load(out) as made:
            assert made["q"].shape == (20, 4, 5, 7)
            error[name] = np.nanmean(np.abs(made["pred"] - truth))
    assert error["shipped"] < 0.8 * error["profile"]


def test_bench_names_what_is_wrong(folder: Path) -> None:
    arguments = ["--windows", str(folder / "flow_windows.npz"), "--out", str(folder / "x.npz")]
    for extra, named in (
        ([str(folder / "none.npz")], "none.npz"),
        ([str(folder / "flow.npz"), "--model", "none"], "none"),
    ):
        done = RUN.invoke(app, ["forecast", "bench", *extra, *arguments])
        assert done.exit_code == 2
        assert named in done.stderr


def test_a_model_is_trained_promoted_used_and_rolled_back(folder: Path, tmp_path: Path) -> None:
    series, models = str(folder / "flow.npz"), ["--models", str(tmp_path / "models")]
    done = RUN.invoke(
        app, ["forecast", "train", series, "--name", "town", "--steps", "30", "--hidden", "8", *models, "--json"]
    )
    assert done.exit_code in (0, 1), done.output
    document = json.loads(done.stdout)
    assert document["trained_on"][0]["fingerprint"]
    assert done.exit_code == (0 if document["passes"] else 1)
    promoted = RUN.invoke(app, ["forecast", "models", "promote", "town", "--on", series, *models, "--json"])
    told = json.loads(promoted.stdout)
    assert promoted.exit_code == (0 if told["verdict"]["passes"] else 1)
    assert told["live"] == ("town" if told["verdict"]["passes"] else "shipped")
    listed = json.loads(RUN.invoke(app, ["forecast", "models", "list", *models, "--json"]).stdout)
    assert [m["name"] for m in listed["models"]] == ["shipped", "town"]
    out = tmp_path / "next.csv"
    done = RUN.invoke(app, ["forecast", "predict", series, "--model", "town", "--out", str(out), *models, "--json"])
    assert done.exit_code == 0, done.output
    assert len(out.read_text().splitlines()) == 1 + 12 * 4
    back = RUN.invoke(app, ["forecast", "models", "rollback", *models])
    assert back.exit_code == (0 if promoted.exit_code == 0 else 2)


def test_a_candidate_in_the_shadow_is_promoted_by_the_readings_of_a_run(folder: Path, tmp_path: Path) -> None:
    models = ["--models", str(tmp_path / "models"), "--json"]
    train = ["forecast", "train", str(folder / "flow.npz"), "--name", "new", "--steps", "2", "--hidden", "8"]
    assert RUN.invoke(app, [*train, *models]).exit_code in (0, 1)
    assert RUN.invoke(app, ["forecast", "models", "try", "nobody", *models]).exit_code == 2
    assert json.loads(RUN.invoke(app, ["forecast", "models", "try", "new", *models]).stdout) == {"candidate": "new"}
    listed = json.loads(RUN.invoke(app, ["forecast", "models", "list", *models]).stdout)
    assert (listed["live"], listed["candidate"]) == ("shipped", "new")

    def result(own: float, name: str = "candidate new") -> str:
        errors = {"served": 1.0, name: own, "ridge": 1.0, "profile": 1.2}
        row = {"minutes": 5, "truths": 100, "flow_mae_veh": errors, "speed_mae_mps": errors}
        path = tmp_path / "result.json"
        path.write_text(json.dumps({"forecast": {"rows": [row]}}))
        return str(path)

    promote = ["forecast", "models", "promote", "new"]
    for own, code in ((1.1, 1), (0.9, 0)):
        done = RUN.invoke(app, [*promote, "--after", result(own), *models])
        assert done.exit_code == code
        assert json.loads(done.stdout)["live"] == ("new" if code == 0 else "shipped")
    assert json.loads(RUN.invoke(app, ["forecast", "models", "list", *models]).stdout)["candidate"] is None
    assert json.loads(RUN.invoke(app, ["forecast", "models", "rollback", *models]).stdout) == {"live": "shipped"}
    assert RUN.invoke(app, [*promote, "--after", result(0.9, "candidate other"), *models]).exit_code == 2
    assert RUN.invoke(app, [*promote, *models]).exit_code == 2, "nothing says what decides"
