"""A stage does its job within its deadline, or its declared fallback stands in and says why."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from twin.stage import Stage


@pytest.fixture
def gate():
    """Opened at the end of a test, so that no stuck work outlives it."""
    event = threading.Event()
    yield event
    event.set()


def test_a_stage_that_works_gives_its_value_and_no_fallback():
    value, outcome = Stage("fuse", 10.0, "last state").run(lambda: 42, lambda: -1)
    assert value == 42
    assert (outcome.stage, outcome.fallback, outcome.error) == ("fuse", "", "")


@pytest.mark.parametrize("error", [ValueError("a hole"), MemoryError(), SystemExit(3)])
def test_whatever_a_stage_raises_its_fallback_stands_in_and_is_named(error):
    def fail():
        raise error

    value, outcome = Stage("fuse", 10.0, "last state").run(fail, lambda: "old")
    assert value == "old"
    assert outcome.fallback == "last state"
    assert outcome.error == f"{type(error).__name__}: {error}"


def test_a_stuck_stage_is_left_alone_until_it_is_done_and_then_works_again(gate):
    stage, entered = Stage("guide", 0.05, "no new advice"), []

    def stuck():
        entered.append(1)
        gate.wait()
        return "late"

    value, outcome = stage.run(stuck, lambda: "none")
    assert value == "none"
    assert "deadline of 0.05 s" in outcome.error
    value, outcome = stage.run(stuck, lambda: "none")
    assert (value, outcome.error) == ("none", "still busy with an earlier cycle")
    assert len(entered) == 1, "a second run beside the first would share its state"
    gate.set()
    late = stage._late
    assert late is not None
    assert late.result(10.0) == "late"
    value, outcome = stage.run(lambda: "fresh", lambda: "none", grace=200.0)
    assert (value, outcome.error) == ("fresh", "")


def test_work_that_was_begun_is_collected_later_and_late_work_is_not_lost(gate):
    stage = Stage("outlook", 0.05, "none yet")
    assert stage.begin(lambda: 7)
    value, outcome = stage.collect(lambda: -1, grace=200.0)
    assert (value, outcome.error, stage.begun) == (7, "", False)
    assert stage.begin(lambda: gate.wait() and "late")
    value, outcome = stage.collect(lambda: "instead")
    assert (value, outcome.fallback) == ("instead", "none yet")
    assert stage.busy
    assert not stage.begin(lambda: 8), "a second run beside the first would share its state"
    assert stage.take_late() is None
    gate.set()
    stage._late.result(10.0)
    assert stage.take_late() == "late"
    assert stage.take_late() is None


def test_grace_stretches_the_deadline(gate):
    threading.Timer(0.2, gate.set).start()
    value, outcome = Stage("fuse", 0.01, "last state").run(lambda: gate.wait(20.0), lambda: None, grace=1000.0)
    assert value is True
    assert outcome.error == ""


def test_a_stuck_stage_does_not_keep_the_program_from_ending():
    program = (
        "import threading; from twin.stage import Stage; "
        "print(Stage('fuse', 0.01, 'last state').run(threading.Event().wait, lambda: 'old')[0])"
    )
    ended = subprocess.run([sys.executable, "-c", program], timeout=60, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "old"
