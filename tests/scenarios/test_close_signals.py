"""Two signals 12 m apart with left turns of both directions between them: the queues must not lock for good."""

from __future__ import annotations

from pathlib import Path

from scenarios.side_by_side import FullyDetected, Job, ScenarioFiles, Side, run_jobs
from tests.signals.drawn_junctions import close_pair_net

FLOWS = [
    *[("w_a", "b_e", 500), ("e_b", "a_w", 500), ("w_a", "b_bn", 220), ("w_a", "a_an", 100), ("e_b", "a_as", 220)],
    *[("an_a", "b_e", 120), ("as_a", "b_e", 120), ("bn_b", "a_w", 120), ("bs_b", "a_w", 120), ("an_a", "a_as", 80)],
    *[("bs_b", "b_bn", 80), ("as_a", "b_bn", 60), ("bn_b", "a_as", 60)],
]  # vehicles an hour


def test_left_turns_between_two_close_signals_do_not_lock(tmp_path: Path) -> None:
    routes = tmp_path / "flows.rou.xml"
    flows = "".join(
        f'<flow id="f{n}" from="{begin}" to="{end}" begin="0" end="900" vehsPerHour="{vph}" departLane="best"/>'
        for n, (begin, end, vph) in enumerate(FLOWS)
    )
    routes.write_text(f"<routes>{flows}</routes>")
    scenario = ScenarioFiles(close_pair_net(), (routes,), (), 0.0, 1200.0)
    jobs = [Job(Side("adaptive", FullyDetected()), seed) for seed in (1, 2)]
    for result in run_jobs(scenario, jobs, workers=1, told=lambda job, now_s: None):
        assert (result.running, result.never_inserted) == (0, 0)
