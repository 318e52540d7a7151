"""Forks of a running city and of a mirror: alike where nothing differs, in time, and whole when some of them fail."""

from __future__ import annotations

import json
import math
import multiprocessing
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from networks.city import CityFolder, Coverage, load_network, write_city
from networks.errors import InputError
from networks.graph import Network
from networks.state import Estimate, NetworkState, VehicleTable
from scenarios.simulation import SNAPSHOT_OPTIONS, RunSpec, Simulation, run_in_process
from signals.fixed import fixed_plan
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.safety import find_change_violations
from tests.grids import draw_grid
from tests.twin import small_city
from twin import branches
from twin.branch_process import BranchSpec, Lamps, Measures, Window, write_loss_words
from twin.branches import SHOWN, Branch, closure, compare_branches, run_branches, seeds_of, start_of_scenario
from twin.cli import app
from twin.mirror import Mirror
from twin.mirror_kept import find_kept, read_kept
from twin.mirror_words import Snapshot

AT_S, SPAN_S = 240.0, 180.0


def demand(rate: float) -> str:
    flows = [("A2A1 A1A0", 500), ("B0B1 B1B2", 350), ("A1B1 B1C1", 600), ("C2C1 C1C0", 450), ("C0B0 B0A0", 300)]
    rows = "".join(
        f'<flow id="f{k}" begin="0" end="900" vehsPerHour="{flow * rate}" departLane="best">'
        f'<route edges="{edges}"/></flow>'
        for k, (edges, flow) in enumerate(flows)
    )
    return f"<routes>{rows}</routes>"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> CityFolder:
    folder = tmp_path_factory.mktemp("grid")
    net = draw_grid(folder / "net.net.xml", 3, 200, "--default-junction-type", "traffic_light")
    routes = folder / "demand.rou.xml"
    routes.write_text(demand(1.0))
    described = CityFolder("grid", folder, net, (routes,), (), (), 0.0, 900.0, 1.7e9, Coverage())
    write_city(described, folder)
    return described


@pytest.fixture(scope="module")
def network(city: CityFolder) -> Network:
    return load_network(city)


@pytest.fixture(scope="module")
def start(city: CityFolder, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return start_of_scenario(city, network, AT_S, 5, tmp_path_factory.mktemp("start"))


def undisturbed(city: CityFolder, network: Network, folder: Path, seed: int) -> Measures:
    """The same span of a run that is never saved or loaded."""
    losses, words = folder / "losses.xml", folder / "words.add.xml"
    write_loss_words(words, losses, AT_S, SPAN_S)
    run = RunSpec(city.network, city.routes, (words,), seed=seed, extra=SNAPSHOT_OPTIONS, scratch=folder)
    with Simulation(run) as simulation:
        simulation.run_until(AT_S)
        window = Window(simulation.sumo)
        while simulation.now_s < AT_S + SPAN_S:
            simulation.step()
            window.note_step(1.0)
    return window.measures(network, losses, SPAN_S)


def test_a_fork_goes_on_as_its_parent_does(
    city: CityFolder, network: Network, start: Snapshot, tmp_path: Path
) -> None:
    parent = run_in_process(undisturbed, city, network, tmp_path, start.seed)
    runs = run_branches(city, network, start, [Branch("fork")], seconds=SPAN_S, seeds=seeds_of(start, 4))
    assert [r.status for r in runs] == ["done"] * 4
    values = {name: [getattr(r.measures, name) for r in runs] for name in SHOWN}
    for name, (fork, *_) in values.items():
        noise = float(np.std(values[name], ddof=1))
        assert abs(fork - getattr(parent, name)) <= 2.0 * noise + 1e-9, name
    assert parent.vehicles == runs[0].measures.vehicles  # type: ignore[union-attr]
    assert len(set(values["delay_s"])) > 1, "other seeds are other days"


def test_every_vehicle_is_counted_once(city: CityFolder, network: Network, start: Snapshot) -> None:
    (run,) = run_branches(city, network, start, [Branch("fork")], seconds=SPAN_S)
    m = run.measures
    assert m is not None
    assert m.vehicles == m.arrived + m.driving + m.waiting
    assert m.throughput_vph == pytest.approx(m.arrived * 3600.0 / SPAN_S)
    assert 0.0 < m.edge_loss_s.sum() <= (m.delay_s - m.waited_s) * m.vehicles + 1e-6


def test_a_closed_street_costs_delay_and_only_where_it_is_closed(
    city: CityFolder, network: Network, start: Snapshot
) -> None:
    closed = Branch("closed", (), (closure("B1C1", network=network),))
    runs = run_branches(city, network, start, [Branch("open"), closed, Branch("same")], seconds=SPAN_S)
    as_is, works, same = compare_branches(runs)
    assert works.change["delay_s"].mean > 5.0
    assert works.change["queue_veh"].mean > 1.0
    assert same.change == as_is.change
    assert {spread.mean for spread in as_is.change.values()} == {0.0}
    before, after = (r.measures.edge_loss_s for r in runs[:2])  # type: ignore[union-attr]
    assert network.edges.ids[int(np.argmax(after - before))] in ("A1B1", "B1C1")


def test_a_mesoscopic_branch_begins_with_the_same_vehicles_and_obeys(
    city: CityFolder, network: Network, start: Snapshot
) -> None:
    """Everybody is there once and gets on about as in the microscopic model; plans and closures hold."""
    signal = network.signals[network.signal_index["B1"]]
    longest = max(signal.programmes[0].phases, key=lambda phase: phase.duration_s)
    stuck = replace(
        fixed_plan(signal, index=network.signal_index["B1"], epoch_of_zero_s=0.0),
        steps=(LampStep(longest.state, 600.0),),
    )
    asked = [Branch("as it is"), Branch("closed", (), (closure("B1C1", network=network),)), Branch("stuck", (stuck,))]
    as_is, closed, held = (
        r.measures for r in run_branches(city, network, start, asked, seconds=SPAN_S, mesoscopic=True)
    )
    (micro,) = (r.measures for r in run_branches(city, network, start, [Branch("micro")], seconds=SPAN_S))
    assert None not in (as_is, closed, held, micro)
    assert as_is.vehicles == micro.vehicles  # type: ignore[union-attr]
    assert as_is.vehicles == as_is.arrived + as_is.driving + as_is.waiting  # type: ignore[union-attr]
    assert as_is.arrived == pytest.approx(micro.arrived, rel=0.25)  # type: ignore[union-attr]
    assert closed.delay_s > as_is.delay_s + 5.0  # type: ignore[union-attr]
    assert held.delay_s > as_is.delay_s + 2.0  # type: ignore[union-attr]


def test_what_is_late_is_called_late_and_not_awaited(city: CityFolder, network: Network, start: Snapshot) -> None:
    two = [Branch("a"), Branch("b")]
    runs = run_branches(city, network, start, two, seconds=SPAN_S, deadline_s=0.2, workers=1)
    assert [(r.name, r.status, r.measures) for r in runs] == [("a", "late", None), ("b", "late", None)]
    assert "could start" in runs[1].error
    assert not [p for p in multiprocessing.active_children() if p.name.startswith("branch")]
    assert compare_branches(runs)[0].measures == {}


def test_a_branch_that_dies_says_so_and_the_others_are_done(
    city: CityFolder, network: Network, start: Snapshot
) -> None:
    def strike(name: str, seed: int, reached_s: float, status: str) -> None:
        for process in multiprocessing.active_children():
            if process.name == "branch doomed":
                process.kill()

    runs = run_branches(
        city, network, start, [Branch("doomed"), Branch("spared")], seconds=SPAN_S, workers=2, told=strike
    )
    assert [(r.name, r.status) for r in runs] == [("doomed", "failed"), ("spared", "done")]
    assert "-9" in runs[0].error


def test_a_state_that_sumo_cannot_load_fails_with_its_words(
    city: CityFolder, network: Network, start: Snapshot, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.xml"
    broken.write_text("<snapshot")
    (run,) = run_branches(city, network, start._replace(file=str(broken)), [Branch("fork")], seconds=SPAN_S)
    assert run.status == "failed"
    assert "cannot load" in run.error


def test_what_cannot_be_asked_is_named(city: CityFolder, network: Network, start: Snapshot, tmp_path: Path) -> None:
    plan = fixed_plan(network.signals[0], epoch_of_zero_s=0.0)
    with pytest.raises(InputError, match="'a' is used twice"):
        run_branches(city, network, start, [Branch("a"), Branch("a")], seconds=SPAN_S)
    with pytest.raises(InputError, match=f"two plans for signal '{plan.signal_id}'"):
        run_branches(city, network, start, [Branch("a", (plan, plan))], seconds=SPAN_S)
    with pytest.raises(InputError, match="no edge 'nowhere'"):
        closure("nowhere", network=network)
    with pytest.raises(InputError, match="has 1 lanes, so none numbered 3"):
        closure("B1C1", [3], network=network)
    with pytest.raises(InputError, match="--at 1000"):
        start_of_scenario(city, network, 1000.0, 1, tmp_path)


class _Lights:
    def __init__(self, state: str) -> None:
        self.state = state

    def getRedYellowGreenState(self, _: str) -> str:  # noqa: N802
        return self.state

    def setRedYellowGreenState(self, _: str, state: str) -> None:  # noqa: N802
        self.state = state


class _Sumo:
    def __init__(self, state: str) -> None:
        self.trafficlight = _Lights(state)


@given(st.sampled_from(["Gr", "rG", "rr"]), st.integers(0, 47), st.integers(0, 300), st.booleans())
def test_signals_go_over_to_a_plan_without_breaking_a_rule(
    held: str, offset_s: int, begin_s: int, street_was_heard: bool
) -> None:
    network = small_city.small_network()
    signal = network.signals[0]
    cycle = (("Gr", 20.0), ("yr", 3.0), ("rr", 1.0), ("rG", 20.0), ("ry", 3.0), ("rr", 1.0))
    steps = tuple(LampStep(state, duration_s) for state, duration_s in cycle)
    plan = SignalPlan(0, signal.id, steps, 0.0, math.inf, repeats=True, offset_s=float(offset_s))
    sumo = _Sumo(held)
    start = Snapshot(float(begin_s), "", b"", (held if street_was_heard else None,), 0)
    lamps = Lamps(sumo, network, start, (plan,))
    record = LampRecord.start(held, float(begin_s))
    for second in range(begin_s, begin_s + 200):
        lamps.show(float(second))
        state = sumo.trafficlight.state
        if state != record.state:
            assert find_change_violations(signal, record, state, float(second)) == []
            record = record.then(state, float(second))
    assert state == plan.state_at(float(second))


def test_a_signal_without_a_plan_of_its_own_is_left_to_sumo() -> None:
    sumo = _Sumo("Gr")
    lamps = Lamps(sumo, small_city.small_network(), Snapshot(0.0, "", b"", (None,), 0), ())
    sumo.trafficlight.state = "rG"
    lamps.show(5.0)
    assert sumo.trafficlight.state == "rG"


@pytest.fixture(scope="module")
def busy_mirror(
    city: CityFolder, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Mirror, Path]]:
    """A mirror that has followed seven minutes of a street with twice the traffic on file; and its kept folder."""
    folder = tmp_path_factory.mktemp("run")
    busier = city.folder / "busier.rou.xml"
    busier.write_text(demand(2.0))
    with closing(Mirror(replace(city, routes=(busier,)), network, seed=3, correct=False)) as street:
        street.start()
        with closing(Mirror(city, network, kept=folder / "mirror")) as mirror:
            mirror.start()
            for t in np.arange(10.0, 421.0, 10.0):
                street.assimilate(blank(network, city.epoch_s + t))
                assert street.wait(60.0), street.failure
                mirror.assimilate(seen(network, street))
                assert mirror.wait(60.0), mirror.failure
            yield mirror, folder


def blank(network: Network, now_s: float) -> NetworkState:
    edges, lanes = Estimate.unknown(len(network.edges.ids)), Estimate.unknown(len(network.lanes.ids))
    shares = Estimate.unknown(len(network.movements.turn))
    lamps = (None,) * len(network.signals)
    return NetworkState(now_s, edges, edges, edges, lanes, lanes, shares, VehicleTable.empty(), lamps, 0.0, ())


def seen(network: Network, street: Mirror) -> NetworkState:
    """The street's flows and lanes, known everywhere."""
    truth = street.latest()
    assert truth is not None

    def known(value: np.ndarray) -> Estimate:
        return Estimate(value, np.full(len(value), 0.25), np.ones(len(value)), np.ones(len(value), np.bool_))

    return replace(
        blank(network, truth.now_s),
        edge_flow_vps=known(truth.edge_flow_vps),
        lane_vehicles=known(truth.lane_vehicles),
        lane_queue_veh=known(truth.lane_queue_veh),
    )


def test_a_fork_of_the_mirror_brings_the_demand_that_the_mirror_has_learnt(
    busy_mirror: tuple[Mirror, Path], city: CityFolder, network: Network, tmp_path: Path
) -> None:
    snapshot = busy_mirror[0].snapshot(tmp_path)
    assert snapshot is not None
    assert snapshot.at_s >= 360.0
    (learnt,) = run_branches(city, network, snapshot, [Branch("fork")], seconds=SPAN_S)
    (plain,) = run_branches(city, network, snapshot._replace(memory=b""), [Branch("fork")], seconds=SPAN_S)
    assert learnt.status == plain.status == "done"
    assert learnt.measures.vehicles > 1.2 * plain.measures.vehicles  # type: ignore[union-attr]


def test_a_kept_snapshot_forks_like_the_one_in_memory(
    busy_mirror: tuple[Mirror, Path], city: CityFolder, network: Network, tmp_path: Path
) -> None:
    mirror, folder = busy_mirror
    note = find_kept(folder)
    assert note is not None
    assert find_kept(folder / "mirror") == note
    kept_city, kept, fingerprint = read_kept(note)
    assert (kept_city, fingerprint) == (city, network.fingerprint)
    own = mirror.snapshot(tmp_path)
    assert own is not None
    assert (kept.at_s, kept.lamps, kept.seed) == (own.at_s, own.lamps, own.seed)
    a, b = (run_branches(city, network, s, [Branch("fork")], seconds=SPAN_S)[0].measures for s in (own, kept))
    assert a is not None
    assert b is not None
    assert astuple(a)[:-1] == astuple(b)[:-1]
    np.testing.assert_array_equal(a.edge_loss_s, b.edge_loss_s)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("format", 9, "format 9"),
        ("state", "gone.xml.gz", "gone.xml.gz"),
        ("demand", {}, "KeyError"),
        ("lamps", 3, ""),
    ],
)
def test_a_note_that_cannot_be_used_is_refused_by_name(
    busy_mirror: tuple[Mirror, Path], tmp_path: Path, field: str, value: object, told: str
) -> None:
    note = find_kept(busy_mirror[1])
    assert note is not None
    spoilt = tmp_path / note.name
    state = note.with_suffix(".xml.gz")
    spoilt.with_suffix(".xml.gz").write_bytes(state.read_bytes())
    spoilt.write_text(json.dumps({**json.loads(note.read_text()), field: value}))
    with pytest.raises(InputError, match=rf"{spoilt.name}.*{told}"):
        read_kept(spoilt)


def test_the_verb_answers_in_json_and_names_what_it_cannot_use(
    busy_mirror: tuple[Mirror, Path], city: CityFolder
) -> None:
    run = CliRunner().invoke(
        app, ["branch", str(busy_mirror[1]), "-b", "works: close=B1C1:0", "--minutes", "1", "--json"]
    )
    assert run.exit_code == 0, run.output
    document = json.loads(run.stdout)
    assert [b["name"] for b in document["branches"]] == ["as it is", "works"]
    assert document["branches"][1]["measures"].keys() == set(SHOWN)
    assert document["branches"][1]["runs"][0]["status"] == "done"
    for words, told in (
        (["-b", "works: close=nowhere"], "nowhere"),
        (["-b", "works"], "NAME: plan=FILE"),
        (["-b", "works: shut=B1C1"], "shut=B1C1"),
        (["-b", "works: plan=missing.add.xml"], "missing.add.xml"),
        (["-b", "as it is: close=B1C1"], "taken"),
        (["--at", "5000"], "--at 5000"),
    ):
        refused = CliRunner().invoke(app, ["branch", str(city.folder), *words])
        assert refused.exit_code == 2, refused.output
        assert told in refused.output.replace("\n", "")


def stall(connection: Connection, spec: BranchSpec) -> None:
    """A branch that never gets anywhere."""
    connection.poll(600.0)


def test_the_verb_ends_with_one_when_a_branch_is_late(city: CityFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branches, "serve", stall)
    run = CliRunner().invoke(app, ["branch", str(city.folder), "--minutes", "240", "--deadline", "1", "--json"])
    assert run.exit_code == 1
    assert json.loads(run.stdout)["branches"][0]["runs"][0]["status"] == "late"
