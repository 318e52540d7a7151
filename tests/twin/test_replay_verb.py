"""`citytwin replay` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from networks.errors import InputError
from tests.twin.street_log import record
from twin.commands.replay import replay
from twin.recorder import Recording, list_files


def run_verb(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(replay)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_the_verb_shows_a_log_without_its_city(tmp_path: Path) -> None:
    record(tmp_path)
    code, output = run_verb(str(tmp_path), "--json", "--verify")
    document = json.loads(output)
    assert code == 0
    assert document["verified"] is True
    assert document["frames"]["v2x"] == 36
    assert document["accepted"] is None
    assert "nowhere" in document["note"]
    assert run_verb(str(tmp_path))[0] == 0


def test_the_verb_says_no_to_a_damaged_log_and_refuses_what_is_none(tmp_path: Path) -> None:
    record(tmp_path)
    file = list_files(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:-1])
    code, output = run_verb(str(tmp_path), "--verify")
    assert code == 1
    assert "cut off" in output
    assert run_verb(str(tmp_path / "absent"))[0] == 2
    stray = tmp_path / "stray"
    stray.write_bytes(b"hello")
    assert run_verb(str(stray))[0] == 2
    with pytest.raises(InputError):
        Recording(tmp_path / "absent")
