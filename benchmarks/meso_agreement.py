"""Does the mesoscopic model rank signal plans as SUMO does? Random sound plans through both, city by city.

    python benchmarks/meso_agreement.py --scenario cologne8=/data/cologne8.sumocfg --plans 200 --json
    python benchmarks/meso_agreement.py --city zone --horizon 3600 --plans 200 --seeds 3 --jobs 1
    python benchmarks/meso_agreement.py --net N --routes R[,R] --additional A --begin 0 --end 1800 --name here

A plan keeps every signal's shipped phases, yellows and clearances, and draws green times, cycle and offset: some lie
close to the shipped one, some far away. SUMO runs at 1 s steps, teleports off, one process a run. Each run is one
line of NAME.jsonl in --runs, so that a benchmark cut short goes on where it stopped; with --stop-after S no run
starts after so many seconds, and the plans that are complete by then are compared.

Where SUMO gridlocks on some seeds, one seed says little: with --seeds N > 1 the delay of a plan is the mean of N runs
on either side. `spearman_sumo_itself` is then the mean agreement of single seeds of SUMO, `reliability` that of such
means (Spearman-Brown), and `ceiling` its root: what a model that knew the true mean would reach.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import sumo
from referee_runs import Scenario
from scipy.stats import pearsonr, spearmanr

from networks.graph import Network, Programme, ProgrammePhase
from networks.readers.formats import holds_programmes
from networks.readers.sumo import read_sumo
from scenarios.cities import find_city
from scenarios.routes import read_demand
from signals.meso import MesoModel, MesoResult, build_meso, timing_of

MIN_GREEN_S = 5.0
CLOSE, FAR = 0.1, 0.8  # log-spread of green times around the shipped ones, of the nearest and the farthest plans
SECTION_VEH = 20.0  # approaches with less throughput say nothing


@dataclass(frozen=True, slots=True)
class Options:
    """How much of a city to run."""

    plans: int
    seeds: int
    jobs: int
    stop_after_s: float
    runs: Path


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of SUMO says of a plan."""

    mean_delay_s: float
    wall_s: float
    edges: Mapping[str, tuple[float, float, float]]  # approaches: time loss, vehicles that left, waiting time


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    options.runs.mkdir(parents=True, exist_ok=True)
    chosen = Options(options.plans, options.seeds, options.jobs, options.stop_after, options.runs)
    answers = []
    for case in _cases(options):
        answer = compare(case, chosen)
        answers.append(answer)
        if not options.json:
            print(" ".join(f"{key}={value}" for key, value in answer.items()), flush=True)
    if options.json:
        print(json.dumps({"cities": answers}))
    return 0 if all(a["spearman_delay"] >= 0.9 for a in answers) else 1


def compare(case: Scenario, options: Options) -> dict[str, object]:
    """Run the plans through both models and correlate."""
    programmed = [path for path in case.additional if holds_programmes(path)]
    network = read_sumo(case.network, programmed)
    demand = read_demand(network, case.routes, case.additional)
    model = build_meso(network, demand, begin_s=case.begin_s, end_s=case.end_s)
    drawn = [draw_plan(network, number) for number in range(options.plans)]
    seen = _runs(case, network, drawn, options)
    seeds = range(1, options.seeds + 1)
    complete = [k for k in range(options.plans) if all((k, seed) in seen for seed in seeds)]
    if len(complete) < 3:
        raise SystemExit(f"{case.name}: {len(complete)} plans complete, nothing to compare")
    timings = [timing_of(network, drawn[k]) for k in complete]
    began = time.process_time()
    ours = model.score(timings, range(options.seeds), workers=1).mean(axis=1)
    spent_s = time.process_time() - began
    each = np.array([[seen[k, seed].mean_delay_s for seed in seeds] for k in complete])
    delay = each.mean(axis=1)
    answer: dict[str, object] = {
        "name": case.name,
        "plans": len(complete),
        "seeds": options.seeds,
        "spearman_delay": _round(spearmanr(delay, ours).statistic),
        "spearman_90_interval": _interval(delay, ours),
        "pearson_log_delay": _round(pearsonr(np.log(delay), np.log(ours)).statistic),
        "sumo_delay_s": [_round(v) for v in np.percentile(delay, (0, 25, 50, 75, 100))],
        "meso_delay_s": [_round(v) for v in np.percentile(ours, (0, 25, 50, 75, 100))],
        **_approaches(network, model, [seen[k, 1] for k in complete], [model.run(timing) for timing in timings]),
        "sumo_s": _round(sum(seen[k, seed].wall_s for k in complete for seed in seeds)),
        "meso_s": _round(spent_s),
    }
    if options.seeds > 1:
        single = float(np.mean([spearmanr(a, b).statistic for a, b in itertools.combinations(each.T, 2)]))
        reliability = max(options.seeds * single / (1.0 + (options.seeds - 1) * single), 0.0)
        answer["spearman_sumo_itself"] = _round(single)
        answer["reliability"], answer["ceiling"] = _round(reliability), _round(np.sqrt(reliability))
    return answer


def _interval(a: np.ndarray, b: np.ndarray) -> list[float]:
    """Percentile bootstrap over plans, 5 to 95 %."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, len(a), len(a)) for _ in range(500)]
    return [_round(v) for v in np.percentile([spearmanr(a[r], b[r]).statistic for r in rows], (5, 95))]


def draw_plan(network: Network, number: int) -> tuple[Programme, ...]:
    """Plan `number` of a network: other greens, cycles and offsets on the shipped phases, the rest of them kept."""
    rng = np.random.default_rng([number, 20])
    spread = CLOSE + (FAR - CLOSE) * rng.random()
    scale = np.exp(rng.normal(0.0, 0.3))  # of all cycles together
    chosen = []
    for signal in network.signals:
        phases = []
        for phase in signal.programme.phases:
            green = set(phase.state) & set("Gg") and not set(phase.state) & set("yYuU")
            if green:
                wished_s = round(phase.duration_s * scale * np.exp(rng.normal(0.0, spread)))
                phase = ProgrammePhase(phase.state, max(MIN_GREEN_S, wished_s), MIN_GREEN_S, wished_s)
            phases.append(phase)
        drawn = Programme(f"drawn{number}", "static", 0.0, tuple(phases))
        chosen.append(replace(drawn, offset_s=float(rng.integers(0, max(1, int(drawn.cycle_s))))))
    return tuple(chosen)


def _runs(
    case: Scenario, network: Network, drawn: Sequence[Sequence[Programme]], options: Options
) -> dict[tuple[int, int], Run]:
    """SUMO's answer per plan and seed: what the file has, and what it does not have yet as far as time goes."""
    kept, lock = options.runs / f"{case.name}.jsonl", threading.Lock()
    known: dict[str, Run] = {}
    if kept.exists():
        for line in kept.read_text().splitlines():
            row = json.loads(line)
            edges = {name: tuple(values) for name, values in row["edges"].items()}
            known[row["key"]] = Run(row["mean_delay_s"], row["wall_s"], edges)
    digest = hashlib.sha1(usedforsecurity=False)
    for path in (case.network, *case.routes, *case.additional):
        digest.update(path.read_bytes())
    digest.update(f"{case.begin_s}|{case.end_s}".encode())
    jobs = {}
    for number, plan in enumerate(drawn):
        of_plan = digest.copy()
        of_plan.update(_tl_logics(network, plan).encode())
        for seed in range(1, options.seeds + 1):
            jobs[number, seed] = f"{of_plan.hexdigest()[:16]}/{seed}"
    began = time.monotonic()

    def work(job: tuple[int, int]) -> None:
        if jobs[job] in known or time.monotonic() - began > options.stop_after_s:
            return
        run = _simulate(case, network, drawn[job[0]], job[1])
        line = {"key": jobs[job], "plan": job[0], "seed": job[1], **asdict(run)}
        with lock, kept.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
            known[jobs[job]] = run

    with ThreadPoolExecutor(options.jobs) as pool:
        for _ in pool.map(work, jobs):
            pass
    return {job: known[key] for job, key in jobs.items() if key in known}


def _simulate(case: Scenario, network: Network, plan: Sequence[Programme], seed: int) -> Run:
    """One run of SUMO, in a process of its own."""
    text = _tl_logics(network, plan)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plans = folder / "plan.add.xml"
        plans.write_text(
            f'<additional>\n{text}<edgeData id="all" file="edges.xml" begin="{case.begin_s}"/>\n</additional>\n'
        )
        command = [
            str(Path(sumo.SUMO_HOME) / "bin" / "sumo"), "-n", str(case.network),
            "-r", ",".join(str(path) for path in case.routes),
            "-a", ",".join([*(str(path) for path in case.additional), str(plans)]),
            "-b", str(case.begin_s), "-e", str(case.end_s), "--seed", str(seed), "--time-to-teleport", "-1",
            "--max-depart-delay", "-1", "--no-step-log", "--no-warnings", "--ignore-route-errors",
            "--tripinfo-output", "trips.xml", "--tripinfo-output.write-unfinished",
            "--tripinfo-output.write-undeparted",
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return _read_run(folder, set(_approach_names(network)), time.perf_counter() - began)


def _read_run(folder: Path, approaches: set[str], wall_s: float) -> Run:
    lost, count = 0.0, 0
    for _, element in ET.iterparse(folder / "trips.xml"):
        if element.tag == "tripinfo":
            get = element.attrib
            count += 1
            lost += float(get["departDelay"]) + max(float(get["timeLoss"]), 0.0)
    edges = {}
    for _, element in ET.iterparse(folder / "edges.xml"):
        if element.tag == "edge" and "timeLoss" in element.attrib and element.attrib["id"] in approaches:
            get = element.attrib
            left = float(get["left"]) + float(get["arrived"])
            edges[get["id"]] = (float(get["timeLoss"]), left, float(get["waitingTime"]))
    return Run(lost / max(count, 1), wall_s, edges)


def _approach_names(network: Network) -> list[str]:
    """Edges that end at a signal."""
    ends = np.unique(network.lanes.edge[network.movements.from_lane[network.movements.signal >= 0]])
    return [network.edges.ids[e] for e in ends]


def _tl_logics(network: Network, plan: Sequence[Programme]) -> str:
    rows = []
    for signal, programme in zip(network.signals, plan, strict=True):
        rows.append(
            f'<tlLogic id="{signal.id}" type="static" programID="{programme.id}" offset="{programme.offset_s}">\n'
        )
        rows += [f'<phase duration="{p.duration_s}" state="{p.state}"/>\n' for p in programme.phases]
        rows.append("</tlLogic>\n")
    return "".join(rows)


def _approaches(
    network: Network, model: MesoModel, truth: Sequence[Run], found: Sequence[MesoResult]
) -> dict[str, float]:
    """Agreement per approach to a signal: among approaches in the mean of all plans, and among plans at each."""
    names = _approach_names(network)
    ends = [network.edge_index[name] for name in names]
    rows = [[t.edges.get(name, (0.0, 0.0, 0.0)) for name in names] for t in truth]
    sumo_loss, sumo_left, sumo_wait = np.moveaxis(np.array(rows, np.float64).reshape(len(truth), -1, 3), 2, 0)
    our_loss = np.array([r.edge_delay_s[ends] - r.edge_insertion_s[ends] for r in found])
    our_left = np.array([r.edge_left_veh[ends] for r in found])
    used = sumo_left.mean(axis=0) >= SECTION_VEH
    span_s = model.end_s - model.begin_s
    within = [spearmanr(sumo_loss[:, i], our_loss[:, i]).statistic for i in np.flatnonzero(used)]
    return {
        "approaches": int(used.sum()),
        "approach_delay": _round(_correlation(sumo_loss[:, used].mean(0), our_loss[:, used].mean(0))),
        "approach_queue": _round(
            _correlation(sumo_wait[:, used].mean(0) / span_s, our_loss[:, used].mean(0) / span_s)
        ),
        "approach_throughput": _round(_correlation(sumo_left[:, used].mean(0), our_left[:, used].mean(0))),
        "approach_delay_over_plans_median": _round(np.nanmedian(within)) if within else np.nan,
    }


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(pearsonr(a, b).statistic) if len(a) > 1 else float("nan")


def _round(value: object) -> float:
    return round(float(value), 3)  # type: ignore[arg-type]


def _cases(options: argparse.Namespace) -> Iterable[Scenario]:
    for spec in options.city:
        city = find_city(spec)
        end_s = city.end_s if options.horizon is None else city.begin_s + options.horizon
        yield Scenario(
            city.name, city.network, city.routes, (*city.additional, *city.programmes), city.begin_s, end_s
        )
    if options.net:
        yield Scenario(
            options.name, options.net.resolve(), _paths(options.routes), _paths(options.additional),
            options.begin, options.end,
        )  # fmt: skip
    for entry in options.scenario:
        name, _, file = entry.rpartition("=")
        path = Path(file).resolve()
        values = {e.tag: e.get("value") or "" for e in ET.parse(path).getroot().iter()}
        begin_s = float(values.get("begin") or 0)
        end_s = float(values["end"]) if options.horizon is None else begin_s + options.horizon
        yield Scenario(
            name or path.stem,
            (path.parent / values["net-file"]).resolve(),
            _paths(values.get("route-files", ""), path.parent),
            _paths(values.get("additional-files", ""), path.parent),
            begin_s,
            end_s,
        )


def _paths(text: str, folder: Path = Path()) -> tuple[Path, ...]:
    return tuple((folder / part.strip()).resolve() for part in text.split(",") if part.strip())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", default=[], help="[NAME=]FILE.sumocfg; may be given again")
    parser.add_argument("--city", action="append", default=[], help="bundled name or folder; may be given again")
    parser.add_argument("--net", type=Path)
    parser.add_argument("--routes", default="")
    parser.add_argument("--additional", default="")
    parser.add_argument("--name", default="city")
    parser.add_argument("--begin", type=float, default=0.0)
    parser.add_argument("--end", type=float, default=3600.0)
    parser.add_argument("--horizon", type=float, help="seconds of each --city and --scenario, not to its end")
    parser.add_argument("--plans", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=1, help="runs of each plan")
    parser.add_argument("--jobs", type=int, default=2, help="SUMO runs at a time")
    parser.add_argument("--stop-after", type=float, default=np.inf, help="seconds of SUMO runs a city")
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "citytwin-meso-agreement")
    parser.add_argument("--json", action="store_true")
    return parser


if __name__ == "__main__":
    sys.exit(main())
