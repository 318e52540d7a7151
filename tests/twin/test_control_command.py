"""`citytwin signals control`: what an engineer types and gets, and what an interruption leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.signals.drawn_junctions import drawn_net
from twin.cli import app

ROOT = Path(__file__).resolve().parents[2]
DEMAND = """<routes>
<flow id="we" begin="0" end="300" vehsPerHour="500" from="wc" to="ce"/>
<flow id="ew" begin="0" end="300" vehsPerHour="400" from="ec" to="cw"/>
<flow id="left" begin="0" end="300" vehsPerHour="120" from="wc" to="cn"/>
<flow id="ns" begin="0" end="300" vehsPerHour="150" from="nc" to="cs"/>
</routes>"""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("given")
    demand = folder / "demand.rou.xml"
    demand.write_text(DEMAND)
    net = drawn_net("nesw", "--sidewalks.guess", "true", "--crossings.guess", "true", "--tls.allred.time", "2")
    return {"--net": str(net), "--routes": str(demand), "--begin": "0", "--end": "300", "--seed": "1"}


def words(options: dict[str, str | None]) -> list[str]:
    return [
        word for name, value in options.items() if value is not None for word in ([name, value] if value else [name])
    ]


def call(given: dict[str, str], **changed: str | None) -> Result:
    options: dict[str, str | None] = {**given, **{f"--{k.replace('_', '-')}": v for k, v in changed.items()}}
    return CliRunner().invoke(app, ["signals", "control", *words(options)])


def test_full_detection_beside_all_that_it_is_compared_with(given: dict[str, str], tmp_path: Path) -> None:
    plan = tmp_path / "plan.add.xml"
    made = CliRunner().invoke(app, ["signals", "convert", "shipped", str(plan), "--net", given["--net"]])
    assert made.exit_code == 0
    plan.write_text(plan.read_text().replace('programID="0"', 'programID="declared"'))
    out = tmp_path / "out"
    answer = call(given, beside="actuated,plan", plan=str(plan), out=str(out), json="")
    assert answer.exit_code == 0, answer.output
    document = json.loads(answer.stdout)
    rows = {row["control"]: row for row in document["rows"]}
    assert list(rows) == ["shipped", "actuated", "plan", "adaptive"]
    assert rows["plan"]["mean_delay_s"] == rows["shipped"]["mean_delay_s"]
    assert rows["adaptive"]["mean_delay_s"] < rows["shipped"]["mean_delay_s"]
    assert document["better"]
    assert all(row["unsafe"] == 0 for row in rows.values())
    assert all(row["walker_delay_s"] > 0.0 for row in rows.values())
    assert len({row["vehicles"] for row in rows.values()}) == 1
    assert json.loads((out / "result.json").read_text()) == document
    again = call(given, beside="actuated,plan", plan=str(plan), out=str(out))
    assert again.exit_code == 0
    assert "4 of 4 runs are kept" in again.stderr
    assert "citytwin adaptive" in again.stdout


def test_sensors_find_the_lamps_and_an_answer_that_can_be_repeated(given: dict[str, str], tmp_path: Path) -> None:
    shares = "loops=1,roadside=1,equipped=0.5"
    told = [
        call(given, end="150", sensors="", coverage=shares, out=str(tmp_path / name), json="")
        for name in ("first", "second")
    ]
    first, second = (json.loads(answer.stdout) for answer in told)
    assert first["sensors"] == {"loops": 1.0, "roadside": 1.0, "equipped": 0.5}
    adaptive = first["rows"][-1]
    assert adaptive["unsafe"] == 0
    assert adaptive["per_seed_s"] == second["rows"][-1]["per_seed_s"]
    assert adaptive["reports"]["1"]["levels"]["vehicles"] > 0
    assert told[0].exit_code == (0 if first["better"] else 1)


def test_no_gain_is_said_with_exit_code_one(given: dict[str, str], tmp_path: Path) -> None:
    lonely = tmp_path / "lonely.rou.xml"
    lonely.write_text('<routes><vehicle id="a" depart="1"><route edges="cw"/></vehicle></routes>')
    answer = call(given, routes=str(lonely), end="20", out=str(tmp_path / "out"), json="")
    assert answer.exit_code == 1
    assert json.loads(answer.stdout)["better"] is False


WRONG_PLANS = {
    "none.add.xml": "<additional/>",
    "other.add.xml": '<additional><tlLogic id="z" type="static" programID="p" offset="0">'
    '<phase duration="9" state="G"/></tlLogic></additional>',
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"net": "nowhere.net.xml"}, "--net: nowhere.net.xml"),
        ({"net": "{here}/torn.net.xml"}, "torn.net.xml"),
        ({"routes": "{here}/none.add.xml,nowhere.rou.xml"}, "--routes: nowhere.rou.xml"),
        ({"additional": "nowhere.add.xml"}, "--additional: nowhere.add.xml"),
        ({"end": "0"}, "--end 0"),
        ({"seeds": "1-3"}, "--seed and --seeds"),
        ({"seed": None, "seeds": "3-x"}, "--seeds 3-x"),
        ({"seed": None, "seeds": "3-1"}, "--seeds 3-1"),
        ({"seed": None, "seeds": "1,1"}, "--seeds 1,1"),
        ({"coverage": "loops=1"}, "only with --sensors"),
        ({"sensors": "", "coverage": "loop=1"}, "'loop'"),
        ({"sensors": "", "coverage": "loops=two"}, "loops: 'two'"),
        ({"sensors": "", "coverage": "equipped=1.5"}, "equipped=1.5"),
        ({"beside": "webster"}, "'webster'"),
        ({"beside": "plan"}, "--plan FILE"),
        ({"plan": "nowhere.add.xml"}, "--plan: nowhere.add.xml"),
        ({"plan": "{here}/none.add.xml"}, "none.add.xml: holds no programme"),
        ({"plan": "{here}/other.add.xml"}, "other.add.xml: tlLogic 'z'"),
        ({"policy": "nowhere.toml"}, "nowhere.toml"),
        ({"policy": "{here}/policy.toml"}, "policy.toml: [weights] car"),
        ({"policy": "{here}/crossing.toml"}, "crossing.toml: [pedestrians.crossings] zebra"),
        ({"routes": "{here}/lost.rou.xml"}, "nowhere"),
        ({"begin": "5000", "end": "5010"}, "no vehicle departs in [5000, 5010)"),
    ],
)
def test_wrong_input_ends_with_two_and_its_name(
    given: dict[str, str], tmp_path: Path, changed: dict[str, str | None], said: str
) -> None:
    for name, text in WRONG_PLANS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "torn.net.xml").write_text("<net><edge id='a'")
    (tmp_path / "policy.toml").write_text("[weights]\ncar = -1\n")
    (tmp_path / "crossing.toml").write_text("[pedestrians.crossings]\nzebra = 0.1\n")
    lost = '<routes><vehicle id="x" depart="0"><route edges="wc nowhere"/></vehicle></routes>'
    (tmp_path / "lost.rou.xml").write_text(lost)
    placed = {name: value if value is None else value.format(here=tmp_path) for name, value in changed.items()}
    answer = call(given, out=str(tmp_path / "out"), **placed)
    assert answer.exit_code == 2, answer.output
    assert said in " ".join(answer.stderr.split())


def test_help_has_an_example() -> None:
    answer = CliRunner().invoke(app, ["signals", "control", "--help"])
    assert answer.exit_code == 0
    assert "citytwin signals control --net" in " ".join(answer.stdout.split())


def heed_interruptions() -> None:
    """What a shell starts in the background ignores Ctrl-C, and hands that down to all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_what_was_done_before_an_interruption_is_kept(given: dict[str, str], tmp_path: Path, blow: int) -> None:
    out = tmp_path / "out"
    options = {**given, "--seed": None, "--seeds": "1-2", "--workers": "1", "--out": str(out), "--json": ""}
    command = [sys.executable, "-m", "twin.cli", "signals", "control", *words(options)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interruptions,
    )
    kept = out / "runs.jsonl"
    while not (kept.exists() and kept.read_bytes().endswith(b"\n")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(blow)
    said, _ = process.communicate(timeout=60)
    lines = kept.read_bytes()
    done = len(lines.splitlines())
    assert done < 4
    if blow == signal.SIGINT:
        document: dict[str, Any] = json.loads(said)
        assert process.returncode == 1
        assert document["missing_runs"] == 4 - done
        assert not document["better"]
    answer = CliRunner().invoke(app, ["signals", "control", *words({**options, "--workers": "2"})])
    assert answer.exit_code == 0, answer.output
    assert f"{done} of 4 runs are kept" in answer.stderr
    assert kept.read_bytes().startswith(lines)
    assert len(kept.read_bytes().splitlines()) == 4
