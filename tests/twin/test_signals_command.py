"""`citytwin signals`: what an engineer types and gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from signals.formats import to_json
from signals.plan import LampStep, SignalPlan
from tests.signals.drawn_junctions import drawn_net
from twin.commands.signals import app


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def answer(*arguments: str | Path, code: int = 0) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == code, result.output
    document = json.loads(result.stdout)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("verb", ["check", "convert", "show"])
def test_each_verb_shows_an_example(verb: str) -> None:
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert f"citytwin signals {verb}" in " ".join(result.stdout.split())


def test_a_safe_plan_goes_through_every_format_and_stays_safe(tmp_path: Path) -> None:
    net = drawn_net("esw")
    last: str | Path = "shipped"
    for name in ("a.csv", "b.json", "c.zh.csv", "d.gat.xml", "e.add.xml"):
        out = tmp_path / name
        assert answer("convert", last, out, "--net", net)["left_out"] == []
        assert answer("check", out, "--net", net)["safe"] is True
        last = out
    assert call("check", last, "--net", net).exit_code == 0
    (shown,) = answer("show", last, "--net", net, "--signal", "c")["programmes"]
    assert [stage["green_s"] for stage in shown["stages"]] == [42.0, 42.0]
    assert [[split["phase"] for split in ring] for ring in shown["rings"]] == [[2], [6, 8]]
    page = call("show", last, "--net", net, "--signal", "c").stdout
    assert "8 S turns" in page
    assert "█" in page
    assert "fits" in call("show", last, "--net", net).stdout


def test_an_unsafe_plan_is_named_with_signal_links_and_second(tmp_path: Path) -> None:
    net = drawn_net("esw")
    made = tmp_path / "plans.add.xml"
    assert call("convert", "shipped", made, "--net", net).exit_code == 0
    lines = [line for line in made.read_text().splitlines() if "y" not in line.partition("state=")[2]]
    made.write_text("\n".join(lines))
    found = answer("check", made, "--net", net, code=1)
    (judged,) = [j for j in found["judged"] if j["violations"]]
    assert judged["signal"] == "c"
    first = judged["violations"][0]
    assert first["links"]
    assert all(first["movements"])
    assert first["at_s"] >= 0
    assert "unsafe" in call("check", made, "--net", net).stdout


def test_rolling_plans_are_checked_too(tmp_path: Path) -> None:
    net = drawn_net("esw")
    state = "r" * 9
    for second, code in (("r" * 9, 0), ("G" * 9, 1)):
        plan = SignalPlan(0, "c", (LampStep(state, 9.0), LampStep(second, 9.0)), 100.0, 130.0)
        (tmp_path / "p.json").write_text(to_json([plan]))
        assert len(answer("check", tmp_path / "p.json", "--net", net, code=code)["judged"]) == 1
    assert "runs once" in call("convert", tmp_path / "p.json", tmp_path / "q.csv", "--net", net).stderr


def test_what_a_format_cannot_hold_is_said_with_exit_code_one(tmp_path: Path) -> None:
    net, made = drawn_net("esw"), tmp_path / "plans.add.xml"
    call("convert", "shipped", made, "--net", net)
    text = made.read_text()
    clock = '<WAUT id="clock" startProg="0"/><wautJunction wautID="clock" junctionID="c"/></additional>'
    made.write_text(text.replace("</additional>", clock))
    assert answer("convert", made, tmp_path / "p.csv", "--net", net, code=1)["left_out"] == ["timetable 'clock'"]
    assert "left out: timetable 'clock'" in call("convert", made, tmp_path / "p.csv", "--net", net).stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no format"),
        ("<net", "not readable"),
        ("{}", "plans"),
        ('<?xml version="1.0" encoding="UTF-M"?><net/>', "unknown encoding"),
        ("<osm/>", "<osm>"),
        ('<additional><tlLogic id="c"/>', "programID"),
    ],
)
def test_a_file_that_cannot_be_used_ends_with_two(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "plans.file"
    file.write_text(text)
    for verb in ("check", "show"):
        result = call(verb, file, "--net", drawn_net("esw"))
        assert result.exit_code == 2
        assert said in result.stderr
        assert "plans.file" in result.stderr
    assert call("check", tmp_path / "none", "--net", drawn_net("esw")).exit_code == 2
    assert call("check", "shipped", "--net", tmp_path / "none").exit_code == 2
    assert call("show", "shipped", "--net", drawn_net("esw"), "--signal", "z").exit_code == 2
