"""The fault drill: whatever breaks, the loop goes on, says what broke, and nothing unproven reaches a lamp."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from networks.city import CityFolder
from networks.graph import Network
from scenarios.virtual_city import Faults, StreetOptions, VirtualCity
from signals.safety import approve
from twin.app import CityModel
from twin.archive import Archive, open_store
from twin.live import LiveResult, run_live
from twin.loop import City, CycleReport, Pace
from twin.store import Store

ROOT = Path(__file__).resolve().parents[2]
TABLE_OF_FEED = {
    "loops": "counts",
    "roadside": "tracks",
    "v2x": "probes",
    "signals": "lamps",
    "weather": "weather",
    "control": "notices",
    "receipts": "receipts",
}
DURATION_S, SILENCE = 240.0, ("loops", 50.0, 170.0)
MIRROR_DIES_S, STREET_DIES_S = 80.0, 150.0


@dataclass
class Drill:
    """What one run under faults left behind."""

    result: LiveResult
    reports: list[CycleReport]
    city: City
    archive: Archive
    mirror_caught_up: bool


@pytest.fixture(scope="module")
def drill(model: CityModel, patient: Pace, tmp_path_factory: pytest.TempPathFactory):
    """Four minutes: 5 % of messages spoilt, all loops silent for two minutes, mirror killed, virtual city killed."""
    folder = tmp_path_factory.mktemp("drill")
    reports: list[CycleReport] = []
    cities: list[City] = []
    caught_up = []

    def strike(city: City, report: CycleReport, street: VirtualCity) -> None:
        reports.append(report)
        into_s = report.now_s - model.folder.epoch_s
        assert city.mirror is not None
        if into_s == MIRROR_DIES_S:
            city.mirror.kill()
        if into_s == STREET_DIES_S:
            street.kill()
        if into_s == DURATION_S:
            caught_up.append(city.mirror.wait(120.0))
            cities.append(city)

    day = StreetOptions(
        seed=11,
        duration_s=DURATION_S,
        coverage=model.folder.coverage,
        faults=Faults(malformed_frac=0.05, silent=(SILENCE,)),
    )
    result = run_live(model, day, patient, store=folder, watch=strike)
    with open_store(folder) as archive:
        yield Drill(result, reports, cities[0], archive, caught_up[0])


def test_the_loop_goes_on_to_the_end(drill):
    assert [r.cycle for r in drill.reports] == list(range(int(DURATION_S / 5)))
    assert drill.result.failures == {}, "no stage of the loop itself was to fail"
    assert drill.result.summary.vehicles == sum(
        (drill.result.summary.arrived, drill.result.summary.running, drill.result.summary.never_inserted)
    )


def test_spoilt_messages_are_in_quarantine_with_their_reasons(drill):
    reasons = {name.split(": ")[1] for name in drill.result.quarantined}
    assert {"malformed", "future", "unknown_id"} <= reasons
    tallies = drill.city.inbox.tallies.values()
    refused, offered = (sum(getattr(t, name) for t in tallies) for name in ("frames_refused", "frames_offered"))
    assert 0.03 < refused / offered < 0.07
    kept = drill.archive.query("select feed || ': ' || reason as why, count(*) as n from quarantine group by why")
    assert dict(zip(*kept.to_pydict().values(), strict=True)) == drill.result.quarantined


def test_a_silent_feed_is_named_while_it_is_silent(drill):
    silent = {r.now_s - drill.reports[0].now_s + 5.0 for r in drill.reports if "loops" in r.silent_feeds}
    _, begin_s, end_s = SILENCE
    assert silent == {s for s in range(5, int(DURATION_S) + 1, 5) if begin_s + 30.0 <= s <= end_s}
    told = drill.archive.query(
        "select count(*) as n from cycles where json_contains(report->'silent_feeds', '\"loops\"')"
    )
    assert told["n"].to_pylist() == [len(silent)]


@pytest.mark.parametrize(
    ("what", "after_s"), [("mirror restarted", MIRROR_DIES_S), ("virtual city restarted", STREET_DIES_S)]
)
def test_a_restart_is_named_in_the_report_of_its_cycle(drill, what, after_s):
    cycle = int(after_s / 5)  # the one after
    assert [r.cycle for r in drill.reports if any(n.startswith(what) for n in r.notes)] == [cycle]
    assert [n for n in drill.archive.report(cycle + 1)["notes"] if n.startswith(what)]
    assert [n for n in drill.result.notes if n.startswith(what)]


def test_the_mirror_follows_the_street_again(drill):
    assert drill.mirror_caught_up
    estimate = drill.city.mirror.latest()
    assert estimate.now_s == drill.reports[-1].now_s


def test_no_plan_at_the_lamps_is_unapproved(drill):
    assert drill.result.summary.safety_violations == 0, drill.result.summary.violation_examples
    network = drill.city.network
    proven = {(d.junction, d.version) for d in drill.archive.decisions() if d.proof}
    receipts = drill.archive.query("select signal, plan_version, accepted from receipts").to_pylist()
    taken = {(network.signals[r["signal"]].id, r["plan_version"]) for r in receipts if r["accepted"]}
    assert taken
    assert taken <= proven
    shown = drill.archive.query("select distinct signal, plan_version from lamps where plan_version >= 0").to_pylist()
    assert {(network.signals[r["signal"]].id, r["plan_version"]) for r in shown} <= proven
    after = drill.reports[int(STREET_DIES_S / 5) + 3 :]
    assert all(len(r.decision.approved) == len(network.signals) for r in after), "control has taken over again"


def test_no_accepted_message_is_lost(drill):
    assert drill.city.inbox.waiting == 0
    assert_rows({feed: tally.rows_accepted for feed, tally in drill.city.inbox.tallies.items()}, drill.archive)


def test_the_history_is_whole_and_its_decisions_stand(drill):
    assert drill.archive.cycles() == tuple(range(1, int(DURATION_S / 5) + 1))
    assert_same_verdicts(drill.archive, drill.city.network)


def assert_rows(accepted: Mapping[str, int], archive: Archive, until_cycle: int = 10**9) -> None:
    stored = {
        feed: archive.query(f"select count(*) as n from {table} where cycle <= ?", [until_cycle])["n"].to_pylist()[0]
        for feed, table in TABLE_OF_FEED.items()
    }
    assert stored == {feed: accepted[feed] for feed in TABLE_OF_FEED}


def assert_same_verdicts(archive: Archive, network: Network) -> None:
    judged = {(d.cycle, d.junction) for d in archive.decisions()} | {
        (d.cycle, d.junction) for d in archive.refusals()
    }
    verdicts = [v for cycle, name in judged for v in archive.replay_decision(cycle, name, network, approve)]
    assert len(verdicts) >= len(judged) > 0
    assert [v for v in verdicts if not v.same] == []


def test_a_street_that_dies_in_the_last_cycle_is_brought_back_to_count_its_vehicles(model, patient):
    def strike(city: City, report: CycleReport, street: VirtualCity) -> None:
        if report.cycle == 3:
            street.kill()

    day = StreetOptions(seed=2, duration_s=20.0, coverage=model.folder.coverage)
    undisturbed = run_live(model, day, patient, mirrored=False)
    result = run_live(model, day, patient, mirrored=False, watch=strike)
    assert [n.split(":")[0] for n in result.notes] == ["virtual city restarted"]
    assert result.summary.vehicles == undisturbed.summary.vehicles > 0


def test_after_kill_9_the_history_is_whole_up_to_the_cycle_in_flight(
    square: CityFolder, model: CityModel, tmp_path: Path
):
    """The whole loop killed at a random moment: street and mirror end too, its store opens and lacks nothing."""
    folder, scratch = tmp_path / "history", tmp_path / "scratch"
    scratch.mkdir()
    last_word = kill_loop_after(random.randrange(8, 16), square, folder, scratch)
    assert all(ends_within(pid, 30.0) for pid in last_word["children"])
    with open_store(folder) as archive:
        committed = archive.cycles()
        assert committed == tuple(range(1, len(committed) + 1))
        assert len(committed) >= last_word["cycle"] - 1
        told = last_word["told"]
        sure = min(len(committed), last_word["cycle"])
        assert_rows(told[sure], archive, until_cycle=sure)
        assert_same_verdicts(archive, model.network)
    with Store(folder) as store:
        assert store.last_cycle == len(committed)


def kill_loop_after(cycles: int, city: CityFolder, folder: Path, scratch: Path) -> dict[str, Any]:
    """Run the loop in a process of its own and kill it some time into the cycle after. Returns what it said last."""
    command = [sys.executable, "-m", "tests.integration.endless_loop", str(city.folder), str(folder)]
    environment = os.environ | {"TMPDIR": str(scratch)}
    told: dict[int, dict[str, int]] = {}
    said: dict[str, Any] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True) as loop:
        assert loop.stdout is not None
        try:
            for line in loop.stdout:
                said = json.loads(line)
                told[said["cycle"]] = said["rows"]
                if said["cycle"] == cycles:
                    time.sleep(random.random() * 0.2)
                    loop.kill()
        finally:
            loop.kill()
    return {**said, "told": told}


def ends_within(process: int, seconds: float) -> bool:
    """Whether a process ends, or is dead and only waits to be buried."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return True
        if status.rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False
