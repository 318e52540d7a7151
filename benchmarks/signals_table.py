"""Every signal controller on every scenario, by the outside referee: delays, walkers, reds, violations, cost.

python benchmarks/signals_table.py [--scenarios cologne1,cologne8] [--seeds 1-5] [--jobs 2] [--json]
    [--referee ../shared/bench/signals_bench.py]  the program that runs and judges
    [--cities ../shared/data/networks]            folder of the city folders of bologna and hamburg
    [--plans FOLDER]                              retimed plans, FOLDER/<scenario>.add.xml
    [--retime SECONDS]                            make those missing with `citytwin signals retime`
    [--out FILE]                                  results so far; runs found there are not done again
    [--columns adaptive,adaptive_sensors]         only these

Mean delay is over every scheduled vehicle, those never inserted included. "rival" is the best of the referee's
max-pressure and max-wave variants on that scenario, by its mean. Walker delay is what the lamps of the crossings mean
for people who come at any moment; "-" without crossings.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from referee_runs import (
    CITIES,
    PLUGIN,
    REFEREE,
    SCENARIOS,
    Job,
    Ledger,
    Scenario,
    find_scenario,
    mean_of,
    parse_seeds,
    print_rows,
    run_all,
    violations_in,
)

from networks.readers.sumo import read_sumo

RIVALS = ("maxpressure", "maxwave", "maxpressure:maxred=90,guard=5", "maxwave:maxred=90,guard=5")
COLUMNS = ("shipped", "actuated", "webster_coord", "rival", "retimed", "adaptive", "adaptive_sensors")
_FIXED = {"shipped": "fixed", "actuated": "actuated", "webster_coord": "webster_coord"}


def jobs_of(scenario: Scenario, columns: Sequence[str], seeds: Sequence[int], plan: Path | None) -> list[Job]:
    """The runs behind one scenario's part of the table."""
    asked = {name: _FIXED[name] for name in columns if name in _FIXED}
    if "rival" in columns:
        asked |= {f"rival {name}": name for name in RIVALS}
    if "retimed" in columns and plan is not None:
        asked["retimed"] = f"plan:file={plan}"
    fallback = f":plan={plan}" if plan is not None else ""
    if "adaptive" in columns:
        asked["adaptive"] = f"plugin:{PLUGIN}:adaptive"
    if "adaptive_sensors" in columns:
        asked["adaptive_sensors"] = f"plugin:{PLUGIN}:adaptive_sensors{fallback}"
    return [Job(scenario, label, controller, seed) for label, controller in asked.items() for seed in seeds]


def find_plan(scenario: Scenario, folder: Path | None, seconds: float) -> Path | None:
    """The retimed plan of a scenario, made when it is missing and `seconds` are given; None when there is none."""
    if folder is None:
        return None
    path = (folder / f"{scenario.name}.add.xml").resolve()
    if path.exists() or seconds <= 0:
        return path if path.exists() else None
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "twin.cli", "signals", "retime", "--net", str(scenario.network)]
    command += ["--routes", ",".join(map(str, scenario.routes)), "--begin", f"{scenario.begin_s:g}"]
    if scenario.additional:
        command += ["--additional", ",".join(map(str, scenario.additional))]
    command += [
        "--end",
        f"{scenario.end_s:g}",
        "--seconds",
        f"{seconds:g}",
        "--seed",
        "1",
        "--out",
        str(path),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not path.exists():
        print(f"{scenario.name}: no retimed plan: {done.stderr.strip()[-300:]}", file=sys.stderr)
        return None
    return path


def summarise(scenario: Scenario, column: str, ledger: Ledger) -> dict[str, Any] | None:
    """One cell of the table; None where nothing ran."""
    rows = ledger.of(scenario.name, column)
    if column == "rival":
        found = [
            (mean_of(r, "delay"), name, r) for name in RIVALS if (r := ledger.of(scenario.name, f"rival {name}"))
        ]
        if not found:
            return None
        _, name, rows = min(found, key=lambda f: f[0] or 0.0)
        column = f"rival: {name}"
    if not rows:
        return None
    junction_s = max(1, _junctions(scenario.network)) * (scenario.end_s - scenario.begin_s)
    ms = [(r.get("extra") or {}).get("twin_ms_per_junction_s", 1e3 * r["ctl_s"] / junction_s) for r in rows]
    return {
        "scenario": scenario.name,
        "controller": column,
        "seeds": len(rows),
        "delay_s": mean_of(rows, "delay"),
        "worst_seed_s": max(r["delay"] for r in rows),
        "jammed_seeds": sum(r["running"] + r["undeparted"] > 0.15 * r["n"] for r in rows),
        "walker_delay_s": mean_of(rows, "walker_delay_s"),
        "max_red_s": max((r.get("max_red_s") or 0.0 for r in rows), default=0.0),
        "violations": violations_in(rows),
        "ms_per_junction_s": sum(ms) / len(ms),
    }


@cache
def _junctions(network: Path) -> int:
    return len(read_sumo(network).signals)


def _shown(cells: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for c in cells:
        walkers = "-" if c["walker_delay_s"] is None else f"{c['walker_delay_s']:.1f}"
        yield [
            c["scenario"],
            c["controller"],
            str(c["seeds"]),
            f"{c['delay_s']:.2f}",
            f"{c['worst_seed_s']:.2f}",
            str(c["jammed_seeds"]),
            walkers,
            f"{c['max_red_s']:.0f}",
            str(c["violations"]),
            f"{c['ms_per_junction_s']:.2f}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default=",".join(SCENARIOS))
    parser.add_argument("--seeds", default="1-5")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--referee", type=Path, default=REFEREE)
    parser.add_argument("--cities", type=Path, default=CITIES)
    parser.add_argument("--plans", type=Path)
    parser.add_argument("--retime", type=float, default=0.0)
    parser.add_argument("--out", type=Path, default=Path("signals_table.jsonl"))
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.referee.is_file():
        raise SystemExit(f"no referee at {options.referee}: name it with --referee")
    columns = options.columns.split(",")
    scenarios = [find_scenario(name, options.referee, options.cities) for name in options.scenarios.split(",")]
    ledger = Ledger(options.out)
    jobs: list[Job] = []
    for scenario in scenarios:
        plan = find_plan(scenario, options.plans, options.retime)
        jobs += jobs_of(scenario, columns, parse_seeds(options.seeds), plan)
    run_all(jobs, ledger, referee=options.referee, workers=options.jobs, record=True)
    cells = [cell for s in scenarios for column in columns if (cell := summarise(s, column, ledger))]
    if options.json:
        print(json.dumps(cells, indent=1))
        return
    head = ["scenario", "controller", "seeds", "delay s", "worst seed", "jams", "walkers s", "max red s"]
    print_rows([*head, "violations", "ms/junction/s"], _shown(cells))


if __name__ == "__main__":
    main()
