"""`citytwin signals retime`: what it says to wrong arguments; the way itself is tested in tests/scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from twin.cli import app


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"--net": "nowhere.net.xml"}, "nowhere.net.xml"),
        ({"--routes": "{here}/demand.rou.xml,nowhere.rou.xml"}, "--routes: nowhere.rou.xml"),
        ({"--end": "5"}, "--end 5"),
        ({"--out": "/nowhere/plan.add.xml"}, "--out"),
        ({}, "net.net.xml"),
    ],
    ids=["net", "routes", "end", "out", "torn net"],
)
def test_wrong_input_ends_with_2_and_its_name(tmp_path: Path, changed: dict[str, str], named: str) -> None:
    (tmp_path / "net.net.xml").write_text("<net><edge id='a'")
    (tmp_path / "demand.rou.xml").write_text("<routes/>")
    options = {
        "--net": str(tmp_path / "net.net.xml"),
        "--routes": str(tmp_path / "demand.rou.xml"),
        "--begin": "10",
        "--end": "60",
        "--out": str(tmp_path / "plan.add.xml"),
        **{k: v.format(here=tmp_path) for k, v in changed.items()},
    }
    words = [word for pair in options.items() for word in pair]
    answer = CliRunner().invoke(app, ["signals", "retime", *words])
    assert answer.exit_code == 2
    assert named in answer.output
    assert not (tmp_path / "plan.add.xml").exists()


def test_help_has_an_example() -> None:
    answer = CliRunner().invoke(app, ["signals", "retime", "--help"])
    assert answer.exit_code == 0
    assert "Example:" in answer.output
