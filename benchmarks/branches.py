"""Forks of a running city: do they go on as their parent does, and how many fit into a control cycle's budget?

    python benchmarks/branches.py --city ../shared/data/networks/bologna_joined --json
    python benchmarks/branches.py --city zone --at 600 --minutes 5 --parents 2

Parents are runs of the city that are saved at a second and go on undisturbed. Branches run the same ten minutes from
that state: the first with the parent's own seed (`fork`), others with other seeds. `noise_sd` is their standard
deviation: what chance alone does in that time. A parent is within the noise when it lies in the 95 % prediction
interval of its branches, as one more of them would; of many measures one in twenty falls outside by chance.
`many` are the wall seconds of all branches at once, with a signal programme of each one's own (offsets shifted), one
worker a core, processes and loading included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.stats import t as student

from networks.city import CityFolder, load_network
from networks.graph import Network
from scenarios.cities import find_city
from scenarios.simulation import Simulation, run_in_process
from signals.fixed import fixed_plan
from twin.branch_process import Measures, Window, write_loss_words
from twin.branches import SEED_STEP, SHOWN, Branch, run_branches
from twin.mirror_process import begun_run
from twin.mirror_words import Snapshot

LEVEL, LEAST_INSIDE = 0.95, 0.9
BUDGET_S = 60.0


def parent(
    city: CityFolder, network: Network, at_s: float, seconds: float, seed: int, folder: Path
) -> tuple[Snapshot, Measures]:
    """Body of a process: run to `at_s`, save, go on, and measure what a branch would measure."""
    state, losses, words = (folder / f"{name}_{seed}.xml" for name in ("state", "losses", "words"))
    write_loss_words(words, losses, at_s, seconds)
    with Simulation(begun_run(city, seed, folder, words=(words,))) as simulation:
        simulation.run_until(at_s)
        simulation.save(state)
        window = Window(simulation.sumo)
        while simulation.now_s < at_s + seconds:
            simulation.step()
            window.note_step(1.0)
    lamps = (None,) * len(network.signals)
    return Snapshot(at_s, str(state), b"", lamps, seed), window.measures(network, losses, seconds)


def likeness(
    city: CityFolder, network: Network, seeds: list[int], others: int, at_s: float, seconds: float, folder: Path
) -> list[dict[str, Any]]:
    """A row a parent: each measure of the parent, of its fork, and the noise between seeds."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        snapshot, measured = run_in_process(parent, city, network, at_s, seconds, seed, folder)
        chosen = [seed + SEED_STEP * k for k in range(others + 1)]
        runs = run_branches(city, network, snapshot, [Branch("fork")], seconds=seconds, seeds=chosen)
        done = [r.measures for r in runs if r.measures is not None]
        reach = float(student.ppf(0.5 + LEVEL / 2, len(done) - 1)) * math.sqrt(1 + 1 / len(done))
        table = {}
        for name in (*SHOWN, "arrived", "driving"):
            values = [float(getattr(m, name)) for m in done]
            truth, noise = float(getattr(measured, name)), stdev(values)
            table[name] = {"parent": truth, "fork": values[0], "mean": mean(values), "noise_sd": noise}
        outside = [name for name, t in table.items() if abs(t["mean"] - t["parent"]) > reach * t["noise_sd"] + 1e-9]
        rows.append({"seed": seed, "branches": len(done), "outside_noise": outside, "measures": table})
        print(f"parent {seed}: outside the noise: {outside or 'nothing'}", file=sys.stderr, flush=True)
    return rows


def many(
    city: CityFolder, network: Network, snapshot: Snapshot, count: int, seconds: float, workers: int
) -> dict[str, object]:
    """So many branches at once, each with offsets of its own at every signal."""
    fixed = [fixed_plan(s, index=k, epoch_of_zero_s=0.0) for k, s in enumerate(network.signals)]
    branches = [
        Branch(f"shift {n}", tuple(replace(p, offset_s=p.offset_s + 5.0 * n) for p in fixed)) for n in range(count)
    ]
    begun = time.monotonic()
    runs = run_branches(city, network, snapshot, branches, seconds=seconds, workers=workers)
    wall_s = time.monotonic() - begun
    done = [r for r in runs if r.status == "done"]
    return {
        "branches": count,
        "done": len(done),
        "workers": workers,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(sum(r.cpu_s for r in done), 2),
        "budget_s": BUDGET_S,
        "in_budget": len(done) == count and wall_s <= BUDGET_S,
        "delay_s": [round(r.measures.delay_s, 1) for r in done if r.measures is not None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city or city folder")
    parser.add_argument("--at", type=float, help="simulated second; default the middle of the demand")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--parents", type=int, default=3, help="seeds of parents")
    parser.add_argument("--others", type=int, default=5, help="other seeds a parent, for the noise")
    parser.add_argument("--branches", type=int, default=8, help="at once")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    city = find_city(order.city)
    network = load_network(city)
    at_s = order.at if order.at is not None else (city.begin_s + city.end_s) / 2
    seconds = order.minutes * 60.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = likeness(city, network, [*range(1, order.parents + 1)], order.others, at_s, seconds, folder)
        lamps = (None,) * len(network.signals)
        snapshot = Snapshot(at_s, str(folder / "state_1.xml"), b"", lamps, 1)
        crowd = many(city, network, snapshot, order.branches, seconds, order.workers)
    inside = 1.0 - sum(len(row["outside_noise"]) for row in rows) / sum(len(row["measures"]) for row in rows)
    document = {
        "city": city.name,
        "at_s": at_s,
        "seconds": seconds,
        "cores": os.cpu_count(),
        "load_at_end": os.getloadavg()[0],
        "inside_noise_share": inside,
        "within_noise": inside >= LEAST_INSIDE,
        "delay_bias": mean(t["mean"] / t["parent"] - 1.0 for t in (row["measures"]["delay_s"] for row in rows)),
        "parents": rows,
        "many": crowd,
    }
    if order.json:
        print(json.dumps(document))
        return
    for row in rows:
        print(f"parent {row['seed']}")
        for measure, t in row["measures"].items():
            print(f"  {measure:16s} parent {t['parent']:10.2f}  fork {t['fork']:10.2f}  noise {t['noise_sd']:8.2f}")
    print(f"{crowd['done']} of {crowd['branches']} branches in {crowd['wall_s']} s ({crowd['cpu_s']} s of CPU)")


if __name__ == "__main__":
    main()
