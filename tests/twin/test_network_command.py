"""`citytwin network`: what an engineer types and gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from typer.testing import CliRunner, Result

from networks.city import read_city
from twin.commands.network import app


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answer(*arguments: str | Path) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("verb", ["import", "check", "show", "export"])
def test_each_verb_shows_an_example(verb: str) -> None:
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert f"citytwin network {verb}" in " ".join(result.stdout.split())


def test_import_then_check_show_and_export(shared_data: Path, tmp_path: Path) -> None:
    city, out = tmp_path / "city", tmp_path / "layers"
    source = shared_data / "networks" / "beijing_chaoyangmen" / "beijing.osm.xml.gz"
    made = answer("import", source, "--out", city, "--epoch", "2026-03-02T07:30:00+08:00")
    assert made["format"] == "osm"
    assert {Path(p).name for p in made["files"]} == {
        "net.net.xml.gz",
        "city.toml",
        "findings.geojson",
        "findings.csv",
    }
    assert read_city(city).epoch_s == 1772407800.0
    assert answer("check", city)["passed"] is True
    shown = answer("show", city)
    assert shown["signals_total"] == len(shown["signals"]) > 0
    assert shown["demand"]["routes"] == []
    files = answer("export", city, "--out", out, "--frame", "utm")["files"]
    assert gpd.read_parquet(next(p for p in files if p.endswith("edges.parquet"))).crs.to_epsg() == 32650
    for arguments in (("import", source, "--out", tmp_path / "again"), ("check", city), ("show", city)):
        assert call(*arguments).exit_code == 0


def test_check_says_no_with_exit_code_one(shared_data: Path) -> None:
    broken = shared_data / "networks" / "format_samples" / "soderleden.xodr.gz"
    assert call("check", shared_data / "networks" / "hamburg_tavf", "--strict").exit_code == 1
    result = call("check", broken, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["passed"] is False


def test_bad_input_ends_with_two_and_one_line(shared_data: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.osm.pbf"
    torn.write_bytes((shared_data / "networks" / "format_samples" / "helsinki.osm.pbf").read_bytes()[:5000])
    city = shared_data / "networks" / "beijing_chaoyangmen"
    for arguments, named in (
        (("import", torn, "--out", tmp_path / "city"), "torn.osm.pbf"),
        (("show", tmp_path / "nowhere"), "nowhere"),
        (("check", torn), "torn.osm.pbf"),
        (("export", city, "--out", tmp_path, "--format", "geojson", "--frame", "utm"), "WGS-84"),
        (("export", city / "net.net.xml.gz", "--out", tmp_path, "--format", "sumo"), "import the map first"),
        (("export", city, "--out", "/proc/nowhere"), "/proc/nowhere"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2, (arguments, result.output)
        assert named in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert result.stdout == ""
