"""citytwin's controllers as plugins of an outside referee of signal control.

The referee calls `adaptive(ctx)` once and the answer before every simulated second; `ctx.ls` is libsumo.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from networks.city import Coverage
from networks.readers.sumo import read_sumo, with_plan
from scenarios.full_detection import DetectedControl
from scenarios.side_by_side import ScenarioFiles
from signals.controllers.junction_choice import Tuning
from signals.controllers.unsure_turns import LEAST_OPEN_FRAC
from signals.fallback import LEAST_SEEN_FRAC
from twin.sensed_control import SensedControl, Sight, control_by_sensors, scenario_prior


def adaptive(ctx: Any, **params: float) -> Callable[[float], None]:
    """Rolling-horizon control with full detection. `params` override fields of `Tuning`."""
    tuning = Tuning(**{k: int(v) if k in ("horizon_s", "targets_max") else v for k, v in params.items()})  # type: ignore[arg-type]
    return DetectedControl(ctx.ls, read_sumo(Path(ctx.scenario.net)), tuning)


def adaptive_sensors(
    ctx: Any,
    *,
    loops: float | None = None,
    roadside: float | None = None,
    equipped: float | None = None,
    wrong: float = 0.0,
    fail: float = 0.0,
    seed: int | None = None,
    prior: int = 1,
    cycle_s: int = 1,
    plan: str = "",
    open_frac: float = LEAST_OPEN_FRAC,
    least: float = LEAST_SEEN_FRAC,
) -> SensedControl:
    """The same through simulated sensors and the twin's fusion.

    loops, roadside, equipped: coverage, the product's default where None. wrong: share of the counted vehicles that
    are missed or counted twice. fail: share of loops that stay silent. prior 0: go without turning shares and mean
    flows of the demand. plan: SUMO additional file with the programmes that signals fall back to, instead of the
    shipped. open_frac: see `signals.controllers.unsure_turns`. least: share of a junction's flow that sensors must
    follow for live control.
    """
    default = Coverage()
    coverage = Coverage(
        default.loops if loops is None else float(loops),
        default.roadside if roadside is None else float(roadside),
        default.equipped if equipped is None else float(equipped),
    )
    scenario = ctx.scenario
    network = read_sumo(Path(scenario.net))
    if plan:
        network = with_plan(network, Path(plan))
    others = (tuple(map(Path, names)) for names in (scenario.routes, scenario.additional))
    files = ScenarioFiles(Path(scenario.net), *others, float(scenario.begin), float(scenario.end))
    return control_by_sensors(
        ctx.ls,
        network,
        Sight(coverage, float(wrong), float(fail), int(ctx.seed if seed is None else seed)),
        scenario_prior(files, network) if prior else None,
        begin_s=float(ctx.begin),
        cycle_s=int(cycle_s),
        least_open_frac=float(open_frac),
        least_seen_frac=float(least),
    )
