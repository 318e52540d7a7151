"""Folders of series: what goes in comes out, through us and through others, or an error says what is broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forecasting import series_folder
from forecasting.reading import Unsaid, read_recording, read_series
from forecasting.recording import Recording, join
from forecasting.series_folder import read_folder, write_folder
from networks.errors import InputError
from tests.forecasting.cities import MONDAY, drawn_city, write_city

STEP_S = 300


def recording(rows: int = 6, places: tuple[str, ...] = ("a", "b", "长安街"), seed: int = 0) -> Recording:
    rng = np.random.default_rng(seed)
    flow = rng.uniform(0, 900, (rows, len(places))).astype(np.float32)
    flow[rng.random(flow.shape) < 0.2] = np.nan
    return Recording(
        name="town", places=places, start_s=MONDAY + np.arange(rows) * STEP_S, step_s=STEP_S,
        channels={"flow": flow, "speed": flow / 10}, target="flow", units={"flow": "veh/h", "speed": "km/h"},
        edges=np.array([[0, 1], [1, 0]]), edge_length_m=np.array([120.5, np.nan], np.float32),
        attributes={"lat": np.array([39.9, np.nan, 40.0])[: len(places)], "lanes": np.arange(float(len(places)))},
        time_zone="Asia/Shanghai", country="CN", licence="CC BY 4.0", source="a drawing", split=(7.0, 1.0, 2.0),
    )  # fmt: skip


def assert_same(one: Recording, other: Recording) -> None:
    for name in ("name", "places", "step_s", "target", "time_zone", "country", "licence", "source", "split"):
        assert getattr(one, name) == getattr(other, name), name
    np.testing.assert_array_equal(one.start_s, other.start_s)
    np.testing.assert_array_equal(one.edges, other.edges)
    np.testing.assert_array_equal(one.edge_length_m, other.edge_length_m)
    assert list(one.channels) == list(other.channels)
    for name, values in one.channels.items():
        np.testing.assert_array_equal(values, other.channels[name])
        assert one.units.get(name, "") == other.units.get(name, "")
    assert set(one.attributes) == set(other.attributes)
    for name, column in one.attributes.items():
        np.testing.assert_array_equal(column, other.attributes[name])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_was_written_is_read_back(tmp_path: Path, data: st.DataObject) -> None:
    places = tuple(data.draw(st.lists(st.text(max_size=5), min_size=2, max_size=5, unique=True)))
    gaps = data.draw(st.lists(st.integers(1, 900), min_size=1, max_size=8))
    drawn = recording(len(gaps), places, seed=data.draw(st.integers(0, 99)))
    drawn = replace(drawn, start_s=MONDAY + STEP_S * np.cumsum(gaps), attributes={"x": np.zeros(len(places))})
    write_folder(drawn, tmp_path / "town")
    assert_same(drawn, read_folder(tmp_path / "town"))


def test_others_read_a_folder_without_us(tmp_path: Path) -> None:
    drawn = recording()
    drawn = replace(drawn, start_s=drawn.start_s + np.array([0, 0, 0, 86400, 86400, 86400]))
    write_folder(drawn, tmp_path / "town")
    nodes, edges = (pd.read_parquet(tmp_path / "town" / f"{name}.parquet") for name in ("nodes", "edges"))
    assert nodes["id"].tolist() == list(drawn.places)
    assert nodes["lat"].tolist() == pytest.approx([39.9, np.nan, 40.0], nan_ok=True)
    assert nodes["lon"].isna().all()
    assert edges["from"].tolist() == ["a", "b"]
    assert edges["to"].tolist() == ["b", "a"]
    assert edges["length_m"].tolist() == pytest.approx([120.5, np.nan], nan_ok=True)
    meta = json.loads((tmp_path / "town" / "meta.json").read_text(encoding="utf-8"))
    assert meta["step_s"] == 300
    assert meta["runs"] == [{"start": "2026-01-05T00:00:00", "rows": 3}, {"start": "2026-01-06T00:15:00", "rows": 3}]
    assert meta["channels"]["flow"] == {"unit": "veh/h", "null": "NaN"}
    assert (meta["time_zone"], meta["licence"]) == ("Asia/Shanghai", "CC BY 4.0")
    np.testing.assert_array_equal(np.load(tmp_path / "town" / "series_flow.npy"), drawn.channels["flow"])


def test_a_folder_is_a_series_like_the_file_it_came_from(tmp_path: Path) -> None:
    write_folder(recording(), tmp_path / "town")
    series, speeds = read_series(tmp_path / "town"), read_series(tmp_path / "town", channel="speed")
    assert (series.quantity, speeds.quantity) == ("flow", "speed")
    assert isinstance(series.values, np.memmap), "a folder is opened, not loaded"
    assert series.place_names() == ("a", "b", "长安街")
    assert series.meta["licence"] == "CC BY 4.0"
    with pytest.raises(InputError, match="no channel 'occ', only flow, speed"):
        read_series(tmp_path / "town", channel="occ")


def test_a_null_rule_of_others_is_obeyed(tmp_path: Path) -> None:
    folder = tmp_path / "town"
    write_folder(recording(), folder)
    counts = np.arange(18, dtype=np.int16).reshape(6, 3) - 1
    np.save(folder / "series_flow.npy", counts)
    change_meta(folder, lambda meta: meta["channels"]["flow"].update(null=-1))
    values = read_series(folder).values
    assert np.isnan(values[0, 0])
    np.testing.assert_array_equal(values.ravel()[1:], np.arange(17))


def change_meta(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    change(meta)
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / "meta.json").unlink(), "meta.json is missing"),
        (lambda f: cut_short(f / "meta.json"), r"meta\.json: Invalid JSON"),
        (lambda f: change_meta(f, lambda m: m.update(version=2)), r"meta\.json: version"),
        (lambda f: change_meta(f, lambda m: m.pop("step_s")), r"meta\.json: step_s"),
        (lambda f: change_meta(f, lambda m: m.update(step_s=0)), r"meta\.json: step_s"),
        (lambda f: change_meta(f, lambda m: m.update(stepp_s=5)), r"meta\.json: stepp_s"),
        (lambda f: change_meta(f, lambda m: m.update(target="speeds")), r"meta\.json: target"),
        (lambda f: change_meta(f, lambda m: m.update(split=[0, 0, 0])), r"meta\.json: split"),
        (lambda f: change_meta(f, lambda m: m.update(time_zone="Asia/Nowhere")), r"meta\.json: time zone"),
        (lambda f: change_meta(f, lambda m: m.update(country="Atlantis")), r"meta\.json: country"),
        (lambda f: change_meta(f, lambda m: m["runs"][0].update(start="today")), r"meta\.json: runs\.0\.start"),
        (
            lambda f: change_meta(f, lambda m: m["runs"][0].update(start="2026-01-05T00:00:00Z")),
            r"meta\.json: runs\.0\.start",
        ),
        (lambda f: change_meta(f, lambda m: m["runs"].append(m["runs"][0])), r"meta\.json: runs\.1\.start"),
        (lambda f: change_meta(f, lambda m: m["runs"][0].update(rows=7)), r"series_flow\.npy: shape"),
        (lambda f: change_meta(f, lambda m: m.update(places=4)), r"nodes\.parquet: id: 3 places"),
        (lambda f: change_meta(f, lambda m: m["channels"].update({"../x": {}})), r"meta\.json: channels"),
        (lambda f: change_meta(f, lambda m: m["channels"].update(occ={})), r"series_occ\.npy: is missing"),
        (lambda f: (f / "series_speed.npy").unlink(), r"series_speed\.npy: is missing"),
        (lambda f: cut_short(f / "series_flow.npy"), r"series_flow\.npy: not a whole"),
        (lambda f: (f / "series_flow.npy").write_bytes(b""), r"series_flow\.npy: not a whole"),
        (lambda f: np.save(f / "series_flow.npy", np.zeros((3, 6))), r"series_flow\.npy: shape"),
        (lambda f: np.save(f / "series_flow.npy", np.full((6, 3), "x")), r"series_flow\.npy: holds"),
        (lambda f: (f / "nodes.parquet").unlink(), r"nodes\.parquet: is missing"),
        (lambda f: cut_short(f / "nodes.parquet"), r"nodes\.parquet: not readable"),
        (lambda f: pd.DataFrame({"name": ["a"]}).to_parquet(f / "nodes.parquet"), r"nodes\.parquet: has no column"),
        (lambda f: pd.DataFrame({"id": ["a", "a", "b"]}).to_parquet(f / "nodes.parquet"), r"nodes\.parquet: id"),
        (lambda f: pd.DataFrame({"id": ["a", None, "b"]}).to_parquet(f / "nodes.parquet"), r"nodes\.parquet: id"),
        (
            lambda f: pd.DataFrame({"from": ["a"], "to": ["z"], "length_m": [1.0]}).to_parquet(f / "edges.parquet"),
            r"edges\.parquet: to: 'z'",
        ),
        (
            lambda f: pd.DataFrame({"from": ["a"], "to": ["b"], "length_m": ["x"]}).to_parquet(f / "edges.parquet"),
            r"edges\.parquet: length_m",
        ),
    ],
)  # fmt: skip
def test_a_damaged_folder_names_file_and_field(tmp_path: Path, damage: Callable[[Path], object], named: str) -> None:
    write_folder(recording(), tmp_path / "town")
    damage(tmp_path / "town")
    with pytest.raises(InputError, match=named):
        read_series(tmp_path / "town")


def test_a_write_that_dies_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    old, new = recording(), recording(rows=9, seed=1)
    for step in ("sync", "_put_in_place"):
        with monkeypatch.context() as broken:
            broken.setattr(series_folder, step, dies)
            with pytest.raises(KeyboardInterrupt):
                write_folder(old, tmp_path / "town")
        assert not list(tmp_path.iterdir()), "nothing half done is left"
    write_folder(old, tmp_path / "town")
    with monkeypatch.context() as broken:
        broken.setattr(series_folder, "sync", dies)
        with pytest.raises(KeyboardInterrupt):
            write_folder(new, tmp_path / "town")
    assert_same(read_folder(tmp_path / "town"), old)
    write_folder(new, tmp_path / "town")
    assert_same(read_folder(tmp_path / "town"), new)
    assert [path.name for path in tmp_path.iterdir()] == ["town"]


def test_a_folder_is_written_over_itself(tmp_path: Path) -> None:
    write_folder(recording(), tmp_path / "town")
    write_folder(replace(read_folder(tmp_path / "town"), licence="CC0"), tmp_path / "town")
    assert_same(read_folder(tmp_path / "town"), replace(recording(), licence="CC0"))


def test_a_folder_of_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1").write_text("years of work")
    with pytest.raises(InputError, match="thesis: is there already"):
        write_folder(recording(), tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1").exists()


def test_joined_days_and_districts_are_one_recording(tmp_path: Path) -> None:
    monday = recording()
    tuesday = replace(recording(seed=1), start_s=monday.start_s + 86400)
    west = replace(recording(seed=2), places=("c", "d", "e"))
    whole = join([monday, tuesday, west])
    assert whole.places == ("a", "b", "长安街", "c", "d", "e")
    np.testing.assert_array_equal(whole.channels["flow"][:6, :3], monday.channels["flow"])
    np.testing.assert_array_equal(whole.channels["flow"][6:, :3], tuesday.channels["flow"])
    np.testing.assert_array_equal(whole.channels["speed"][:6, 3:], west.channels["speed"])
    assert np.isnan(whole.channels["flow"][6:, 3:]).all()
    assert sorted(map(tuple, whole.edges.T.tolist())) == [(0, 1), (1, 0), (3, 4), (4, 3)]
    with pytest.raises(InputError, match=r"flow of .* at 2026-01-05T00:.* is there already"):
        join([monday, tuesday, recording(seed=3)])
    with pytest.raises(InputError, match="step: 600 s"):
        join([monday, replace(tuesday, step_s=600)])
    with pytest.raises(InputError, match="time zone: unknown"):
        join([monday, replace(tuesday, time_zone="")])
    with pytest.raises(InputError, match="within a step"):
        join([monday, replace(west, start_s=west.start_s + 60)])


def test_our_npz_becomes_a_folder_with_all_its_channels(tmp_path: Path) -> None:
    city = drawn_city(days=2)
    extra = {"x_occ": np.ones(city.values.shape, np.uint16), "scale_occ": 0.01, "nattr_lanes": np.arange(6)}
    path = write_city(tmp_path / "town.npz", city, **extra)
    write_folder(read_recording(path, Unsaid()), tmp_path / "town")
    shutil.copytree(tmp_path / "town", tmp_path / "elsewhere")
    read, file = read_series(tmp_path / "elsewhere"), read_series(path)
    assert read.fingerprint() == file.fingerprint()
    assert read.place_names() == tuple(f"n{k}" for k in range(6))
    np.testing.assert_array_equal(read.edges, file.edges)
    np.testing.assert_array_equal(read.attributes["lanes"], np.arange(6))
    assert read_series(tmp_path / "elsewhere", channel="occ").values[0, 0] == pytest.approx(0.01)
