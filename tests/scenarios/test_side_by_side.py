"""Controls of one scenario measured alike, each run in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from networks.city import CityFolder
from networks.errors import InputError, ProcessError
from networks.graph import Network
from scenarios.demand import DemandBook, expand_flow, read_elements
from scenarios.full_detection import DetectedControl, FullDetection
from scenarios.run_ledger import RunLedger, run_keys
from scenarios.side_by_side import FullyDetected, Job, Result, ScenarioFiles, Side, run_jobs
from signals.controllers.approaches import build_stop_lines
from signals.priority import read_policy
from tests.scenarios.sumo_lamps import die

ADAPTIVE = Side("adaptive", FullyDetected())
WITH_POLICY = Side("policy", FullyDetected(read_policy()), settings="policy")


@pytest.fixture(scope="module")
def scenario(tiny_city: CityFolder) -> ScenarioFiles:
    return ScenarioFiles(tiny_city.network, tiny_city.routes, tiny_city.additional, 0.0, 300.0)


def run(scenario: ScenarioFiles, *jobs: Job) -> list[Result]:
    return sorted(run_jobs(scenario, jobs, workers=2, told=lambda job, now_s: None), key=lambda r: (r.side, r.seed))


@pytest.fixture(scope="module")
def results(scenario: ScenarioFiles) -> list[Result]:
    sides = (Side("shipped"), ADAPTIVE, WITH_POLICY, Side("actuated", actuated=True))
    return run(scenario, *(Job(side, 1) for side in sides), Job(ADAPTIVE, 1))


def scheduled(scenario: ScenarioFiles) -> int:
    book, count = DemandBook(), 0
    for path in scenario.routes:
        for element in read_elements(path, book):
            for vehicle in expand_flow(element, 0):
                count += scenario.begin_s <= float(vehicle.attrib["depart"]) < scenario.end_s
    return count


def test_every_scheduled_vehicle_counts_on_every_side(results: list[Result], scenario: ScenarioFiles) -> None:
    assert [r.side for r in results] == ["actuated", "adaptive", "adaptive", "policy", "shipped"]
    for result in results:
        assert result.vehicles == result.arrived + result.running + result.never_inserted == scheduled(scenario)
        assert result.longest_red_s > 0.0
        assert result.stops_per_vehicle > 0.0


def test_adaptive_control_is_safe_quicker_than_shipped_and_repeatable(results: list[Result]) -> None:
    _, adaptive, again, policy, shipped = results
    assert adaptive.violations == policy.violations == {}
    assert adaptive.mean_delay_s < shipped.mean_delay_s
    assert policy.mean_delay_s < shipped.mean_delay_s
    assert replace(again, wall_s=adaptive.wall_s) == adaptive


def test_whoever_never_gets_in_counts_from_the_second_he_was_due(scenario: ScenarioFiles, tmp_path: Path) -> None:
    crowd = tmp_path / "crowd.rou.xml"
    rows = "".join(f'<vehicle id="{n}" depart="10"><route edges="left0A0 A0B0"/></vehicle>' for n in range(200))
    crowd.write_text(f"<routes>{rows}</routes>")
    (result,) = run(replace(scenario, routes=(crowd,), end_s=40.0), Job(Side("shipped"), 1))
    assert result.vehicles == 200
    assert result.never_inserted > 100
    assert result.mean_delay_s > 30.0 * result.never_inserted / 200


def test_a_scenario_without_departures_is_named(scenario: ScenarioFiles) -> None:
    with pytest.raises(InputError, match=r"demand\.rou\.xml: no vehicle departs in \[5000, 5010\)"):
        run(replace(scenario, begin_s=5000.0, end_s=5010.0), Job(Side("shipped"), 1))


def dying(libsumo: Any, network: Network, begin_s: float, seed: int) -> Any:
    die(7)


def test_a_run_that_dies_is_an_error_with_its_name(scenario: ScenarioFiles) -> None:
    with pytest.raises(ProcessError, match=r"dying, seed 3.*exit code 7"):
        run(scenario, Job(Side("dying", dying), 3))


def test_signals_without_stage_or_lane_keep_their_own_programme(tiny_network: Network) -> None:
    shown: dict[str, str] = {}
    lights = SimpleNamespace(setRedYellowGreenState=shown.__setitem__)
    nobody = SimpleNamespace(getIDList=tuple)
    sumo = SimpleNamespace(trafficlight=lights, vehicle=nobody, person=nobody, lane=None)
    driven = [index != 2 for index in range(len(tiny_network.signals))]
    street = FullDetection(sumo, tiny_network, build_stop_lines(tiny_network), driven)
    assert [record is not None for record in street.look(0.0)] == driven
    assert tiny_network.signals[2].id not in shown
    bare = replace(tiny_network, signals=(replace(tiny_network.signals[0], stages=()), *tiny_network.signals[1:]))
    sumo.lane = SimpleNamespace(getLastStepVehicleNumber=lambda _: 0, getLastStepHaltingNumber=lambda _: 0)
    control = DetectedControl(sumo, bare)
    control(0.0)
    assert not control.in_charge(0)
    assert control.in_charge(1)


def result(seed: int = 1) -> Result:
    return Result("shipped", seed, 9, 8, 1, 0, 3.5, 0.5, 40.0, None, {"yellow": 2}, ("a", "b"), 0, {"n": 1}, 2.0)


def test_kept_results_outlive_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    RunLedger(path).add("one", result())
    with path.open("a") as file:
        file.write('{"key": "two", "result"')
    ledger = RunLedger(path)
    assert ledger.find("one") == result()
    assert ledger.find("two") is None
    ledger.add("two", result(2))
    assert [RunLedger(path).find(key) for key in ("one", "two", "three")] == [result(), result(2), None]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text("a shopping list\n")
    with pytest.raises(InputError, match=r"runs\.jsonl: line 1"):
        RunLedger(path)


def test_a_kept_result_is_only_used_for_the_very_same_run(scenario: ScenarioFiles, tmp_path: Path) -> None:
    plan = tmp_path / "plan.add.xml"
    plan.write_text("<additional/>")

    def keys(changed: ScenarioFiles = scenario, sides: Sequence[Side] = (ADAPTIVE, Side("shipped"))) -> list[str]:
        return run_keys(changed, [Job(side, seed) for side in sides for seed in (1, 2)])

    assert len(set(keys())) == 4
    assert keys() == keys()
    assert not set(keys(replace(scenario, end_s=301.0))) & set(keys())
    assert not set(keys(replace(scenario, routes=(*scenario.routes, plan)))) & set(keys())
    assert not set(keys(sides=[replace(ADAPTIVE, plan=plan)])) & set(keys())
    assert not set(keys(sides=[replace(ADAPTIVE, settings="other")])) & set(keys())
