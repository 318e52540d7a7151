"""History that survives kill -9 and can be read by anybody."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from networks.errors import InputError
from networks.graph import Signal
from signals.lamps import LampRecord
from signals.plan import ApprovedPlan, SignalPlan
from signals.safety import approve
from tests.twin import cycles
from tests.twin import small_city as town
from twin.archive import open_store
from twin.cycle_record import TABLES, plan_from_text, plan_to_text
from twin.store import Store, StoreError, list_open, list_segments

ROOT = Path(__file__).resolve().parents[2]


def write(folder: Path, count: int, cycles_per_segment: int = 4) -> None:
    with Store(folder, cycles_per_segment=cycles_per_segment) as store:
        for _ in range(count):
            store.append_cycle(cycles.record(store.last_cycle + 1))


def test_everything_of_a_cycle_comes_back(tmp_path: Path) -> None:
    write(tmp_path, 6)
    with open_store(tmp_path) as archive:
        assert archive.cycles() == (1, 2, 3, 4, 5, 6)
        assert archive.report(5)["stage_ms"] == {"fusion": 1.5}
        sizes = {name: len(archive.query(f"select * from {name}")) for name in TABLES}
        assert sizes == dict.fromkeys(TABLES, 6) | {
            "tracks": 0,
            "warnings": 0,
            "weather": 0,
            "proposals": 12,
            "quarantine": 12,
        }
        assert archive.query("select count from counts order by cycle")["count"].to_pylist() == [1, 2, 3, 4, 5, 6]
        assert archive.query("select plan_version from receipts where cycle = 3")["plan_version"].to_pylist() == [3]
        states = archive.query("select * from states where cycle = 4")
        assert states["edge_flow_vps"].to_pylist() == [[0.5] * 4]
        assert states["edge_density_vpm_variance"].to_pylist() == [[np.inf] * 4]
        reasons = archive.query("select feed, reason from quarantine where cycle = 2 order by feed").to_pylist()
        assert reasons == [{"feed": "loops", "reason": "unknown_id"}, {"feed": "weather", "reason": "malformed"}]


def test_a_forecast_is_kept_once_however_long_it_is_used(tmp_path: Path) -> None:
    old = cycles.record(1).forecast
    with Store(tmp_path) as store:
        for number in range(1, 5):
            made = cycles.record(number, forecast=False)
            store.append_cycle(type(made)(**{f: getattr(made, f) for f in made.__slots__} | {"forecast": old}))
    with open_store(tmp_path) as archive:
        assert len(archive.query("select * from forecasts")) == 1


def test_history_averages_whole_steps_and_sees_nothing_later(tmp_path: Path) -> None:
    write(tmp_path, 30)
    with open_store(tmp_path) as archive:
        history = archive.history(town.T0_S + 100.0, step_s=60.0)
        assert history.grid.count == 1, "the second minute is not over at 100 s"
        numbers = [n for n in range(1, 31) if n * cycles.CYCLE_S < 60.0]
        assert history.flow_vps[0] == pytest.approx(np.mean(numbers) / 8)
        assert history.valid.all()
        assert archive.history(town.T0_S - 1).flow_vps.size == 0


def test_any_decision_is_judged_again_with_the_same_verdict_and_proof(tmp_path: Path) -> None:
    write(tmp_path, 5)
    with open_store(tmp_path) as archive:
        for cycle in archive.cycles():
            verdicts = archive.replay_decision(cycle, "J", cycles.NETWORK, approve)
            assert [v.approved_then for v in verdicts] == [True, False]
            assert all(v.same for v in verdicts)
            assert "yellow" in verdicts[1].detail
        (kept,) = archive.decisions(cycle=3)
        assert kept.cost_veh_s == 3.1
        assert kept.next_best_veh_s == 5.5
        assert kept.plan == cycles.record(3).approved[0].plan
        with pytest.raises(InputError, match="nowhere"):
            archive.replay_decision(3, "nowhere", cycles.NETWORK, approve)


def test_a_safety_rule_that_changed_shows_in_the_replay(tmp_path: Path) -> None:
    def other_proof(
        plan: SignalPlan, signal: Signal, lamps: LampRecord | None, *, now_s: float, version: int
    ) -> ApprovedPlan:
        return approve(plan, signal, None, now_s=now_s, version=version)

    write(tmp_path, 1)
    with open_store(tmp_path) as archive:
        assert not archive.replay_decision(1, "J", cycles.NETWORK, other_proof)[0].same


def test_plans_travel_through_text_unchanged() -> None:
    plan = cycles.plan(1_772_406_000.1 + 1e-7, (("Gr", 5), ("yr", 3)))
    assert plan_from_text(plan_to_text(plan)) == plan
    assert repr(plan_from_text(plan_to_text(plan))) == repr(plan)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Store(tmp_path), pytest.raises(StoreError, match="another process"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_readers_see_committed_cycles_while_the_writer_goes_on(tmp_path: Path) -> None:
    with Store(tmp_path, cycles_per_segment=4) as store:
        for number in range(1, 8):
            store.append_cycle(cycles.record(number))
            store.flush()
            with open_store(tmp_path) as archive:
                assert archive.cycles() == tuple(range(1, number + 1))
                assert archive.findings == []


def test_old_segments_are_forgotten_whole(tmp_path: Path) -> None:
    with Store(tmp_path, cycles_per_segment=2) as store:
        for number in range(1, 8):
            store.append_cycle(cycles.record(number))
        store.flush()
    with Store(tmp_path) as store:
        assert store.forget_before(town.T0_S + 5 * cycles.CYCLE_S) == 2
        assert store.append_cycle(cycles.record(8)) == 8
    with open_store(tmp_path) as archive:
        assert archive.cycles() == (5, 6, 7, 8)


def test_cycles_that_meet_a_full_disk_are_named_and_written_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path, cycles_per_segment=3) as store:
        store.append_cycle(cycles.record(1))
        store.flush()
        with monkeypatch.context() as full:
            full.setattr(os, "fdatasync", _no_space)
            store.append_cycle(cycles.record(2))
            with pytest.raises(StoreError, match="cycle 2 is not in the history yet"):
                store.append_cycle(cycles.record(3))
            with pytest.raises(StoreError, match="last 2 cycles"):
                store.flush()
            with open_store(tmp_path) as archive:
                assert archive.cycles() == (1,)
        store.append_cycle(cycles.record(4))
    with open_store(tmp_path) as archive:
        assert archive.cycles() == (1, 2, 3, 4)


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A folder whose writer was killed at random moments, four times over, and the last cycle it had confirmed."""
    folder = tmp_path_factory.mktemp("killed")
    rng = random.Random(5)
    confirmed = 0
    for _ in range(4):
        confirmed = max(confirmed, _write_and_kill(folder, rng))
        with open_store(folder) as archive:
            found = archive.cycles()
        assert found in (tuple(range(1, confirmed + 1)), tuple(range(1, confirmed + 2))), (
            "each once, at most one more"
        )
        confirmed = found[-1]
    return folder, confirmed


def _write_and_kill(folder: Path, rng: random.Random) -> int:
    command = [sys.executable, "-m", "tests.twin.cycles", str(folder), "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as writer:
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(rng.randrange(1, 8))]
        time.sleep(rng.random() * 0.06)
        writer.kill()
        said += writer.stdout.read().split()
    return int(said[-1])


def test_killed_at_any_moment_every_committed_cycle_is_there_once(killed: tuple[Path, int]) -> None:
    folder, confirmed = killed
    Store(folder).close()
    assert list_open(folder) == [], "all packed on opening"
    with open_store(folder) as archive:
        assert archive.cycles() == tuple(range(1, confirmed + 1))
        for table in ("counts", "states", "decisions", "receipts"):
            rows = archive.query(f"select cycle from {table} order by cycle")["cycle"].to_pylist()
            assert rows == list(range(1, confirmed + 1))
        assert all(v.same for v in archive.replay_decision(confirmed, "J", cycles.NETWORK, approve))
    plain = duckdb.sql(
        f"select cycle from read_parquet('{folder}/segments/*/decisions.parquet') order by 1"
    ).fetchall()
    assert [cycle for (cycle,) in plain] == list(range(1, confirmed + 1))
    arrow = [pq.read_table(s / "counts.parquet")["cycle"].to_pylist() for s in list_segments(folder)]
    assert sorted(itertools.chain.from_iterable(arrow)) == list(range(1, confirmed + 1))


def test_a_log_cut_anywhere_loses_only_what_was_cut(tmp_path: Path) -> None:
    """As after a power failure: the tail of the open segment is missing or garbage."""
    origin = tmp_path / "origin"
    sizes = []
    with Store(origin) as store:
        for number in range(1, 6):
            store.append_cycle(cycles.record(number))
            store.flush()
            sizes.append(list_open(origin)[0].stat().st_size)
        shutil.copytree(origin, tmp_path / "copy")
    rng = random.Random(3)
    for case in range(6):
        folder = tmp_path / f"cut{case}"
        shutil.copytree(tmp_path / "copy", folder)
        log = list_open(folder)[0]
        cut = rng.randrange(sizes[1], sizes[-1])
        os.truncate(log, cut)
        if case % 2:
            log.write_bytes(log.read_bytes() + rng.randbytes(500))
        whole = sum(size <= cut for size in sizes)
        with open_store(folder) as archive:
            assert archive.cycles() == tuple(range(1, whole + 1))
            assert archive.findings or cut in sizes
        with Store(folder) as store:
            assert store.last_cycle == whole
