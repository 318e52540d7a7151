"""How control degrades with its sensors: detection of approaches, equipped vehicles, wrong counts.

python benchmarks/degradation.py [--scenarios cologne8] [--seeds 1] [--jobs 1] [--json]
    [--plan FILE]      SUMO additional file with retimed programmes: what control is held against and falls back to;
                       without, the shipped programmes
    [--loops 1,0.6,0.3,0.1] [--equipped 0,0.2,0.5] [--wrong 0,0.1]
    [--referee ../shared/bench/signals_bench.py] [--cities ../shared/data/networks] [--out FILE]

Roadside units are left out where loops are thinned (`roadside` is the same share as `loops`, at most the default).
Exit status 1 when control is worse than the plan anywhere, by more than --tolerance (share) on the mean of the seeds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from referee_runs import (
    CITIES,
    PLUGIN,
    REFEREE,
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

from networks.city import Coverage

Sight = tuple[float, float, float]  # shares: approaches with loops, equipped vehicles, wrong counts


def sensed(sight: Sight, plan: Path | None) -> tuple[str, str]:
    """Label and referee's name of the controller under these sensors."""
    loops, equipped, wrong = sight
    roadside = min(loops, Coverage().roadside)
    params = f"loops={loops:g},roadside={roadside:g},equipped={equipped:g},wrong={wrong:g}"
    fallback = f",plan={plan}" if plan else ""
    return f"{base_label(plan)} {params}", f"plugin:{PLUGIN}:adaptive_sensors:{params}{fallback}"


def jobs_of(scenario: Scenario, sights: Sequence[Sight], seeds: Sequence[int], plan: Path | None) -> list[Job]:
    fixed = (base_label(plan), f"plan:file={plan}" if plan else "fixed")
    return [
        Job(scenario, label, controller, seed)
        for label, controller in [fixed, *(sensed(s, plan) for s in sights)]
        for seed in seeds
    ]


def base_label(plan: Path | None) -> str:
    return f"plan {plan.name}" if plan else "shipped"


def summarise(scenario: Scenario, sights: Sequence[Sight], plan: Path | None, ledger: Ledger) -> list[dict[str, Any]]:
    """One row a sight: delay, what the plan gives on the same seeds, and the share of junction-cycles by level."""
    base = ledger.of(scenario.name, base_label(plan))
    answer = []
    for sight in sights:
        rows = ledger.of(scenario.name, sensed(sight, plan)[0])
        seeds = {r["seed"] for r in rows}
        beside = [r for r in base if r["seed"] in seeds]
        delay_s, plan_s = mean_of(rows, "delay"), mean_of(beside, "delay")
        if delay_s is None or plan_s is None:
            continue
        levels: dict[str, float] = {}
        for row in rows:
            for level, count in (row.get("extra") or {}).get("levels", {}).items():
                levels[level] = levels.get(level, 0.0) + count
        total = sum(levels.values()) or 1.0
        answer.append(
            {
                "scenario": scenario.name,
                "loops": sight[0],
                "equipped": sight[1],
                "wrong": sight[2],
                "seeds": len(rows),
                "delay_s": delay_s,
                "plan_delay_s": plan_s,
                "ratio": delay_s / plan_s,
                "violations": violations_in(rows),
                "plan_violations": violations_in(beside),
                "levels": {name: count / total for name, count in levels.items()},
            }
        )
    return answer


def _shown(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    for r in rows:
        levels = " / ".join(f"{100 * share:.0f}" for share in r["levels"].values())
        yield [
            r["scenario"],
            f"{100 * r['loops']:.0f}",
            f"{100 * r['equipped']:.0f}",
            f"{100 * r['wrong']:.0f}",
            str(r["seeds"]),
            f"{r['delay_s']:.2f}",
            f"{r['plan_delay_s']:.2f}",
            f"{r['ratio']:.2f}",
            str(r["violations"]),
            levels,
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenarios", default="cologne8")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plan", type=Path)
    parser.add_argument("--loops", default="1,0.6,0.3,0.1")
    parser.add_argument("--equipped", default="0,0.2,0.5")
    parser.add_argument("--wrong", default="0,0.1")
    parser.add_argument("--tolerance", type=float, default=0.02)
    parser.add_argument("--referee", type=Path, default=REFEREE)
    parser.add_argument("--cities", type=Path, default=CITIES)
    parser.add_argument("--out", type=Path, default=Path("degradation.jsonl"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.referee.is_file():
        raise SystemExit(f"no referee at {options.referee}: name it with --referee")
    plan = options.plan.resolve() if options.plan else None
    shares = [[float(part) for part in text.split(",")] for text in (options.loops, options.equipped, options.wrong)]
    sights: list[Sight] = [(a, b, c) for a, b, c in itertools.product(*shares)]
    scenarios = [find_scenario(name, options.referee, options.cities) for name in options.scenarios.split(",")]
    ledger = Ledger(options.out)
    jobs = [job for s in scenarios for job in jobs_of(s, sights, parse_seeds(options.seeds), plan)]
    run_all(jobs, ledger, referee=options.referee, workers=options.jobs, record=False)
    rows = [row for s in scenarios for row in summarise(s, sights, plan, ledger)]
    worse = [r for r in rows if r["ratio"] > 1.0 + options.tolerance]
    if options.json:
        print(json.dumps({"rows": rows, "worse_than_plan": len(worse)}, indent=1))
    else:
        head = ["scenario", "loops %", "equipped %", "wrong %", "seeds", "delay s", "plan s", "ratio", "violations"]
        print_rows([*head, "vehicles / queues / fixed %"], _shown(rows))
    sys.exit(1 if worse else 0)


if __name__ == "__main__":
    main()
