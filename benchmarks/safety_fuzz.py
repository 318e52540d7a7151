"""Tries to get something unsafe past the proof, and past the roadside controllers.

    python benchmarks/safety_fuzz.py --plans 1000000 --junction-hours 10000 --seed 1 --jobs 2 --net NET.net.xml.gz \\
        --out fuzz.jsonl --json

(a) Hostile plans over made-up signals of 2 to 30 links and the signals of the nets given, each judged by
`signals.safety.approve` and, second by second, by a plain checker that shares no code with it. Wanted: no unsafe plan
approved, no safe one refused.
(b) Junction-hours of live switching: controllers under sensor failures, restarts and hangs, the arbiter, orders as
bytes over a channel that loses, doubles, delays and corrupts, roadside controllers whose clocks jump and whose power
fails, and forged orders; the lamps judged each second by `signals.watch.Bystander`. Wanted: no unsafe state.

Work is cut into blocks, each from its own seed. With `--out`, finished blocks are kept in a file and not done again.
Exit code 1 when anything was found.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.fuzzing.made_up import make_signal
from benchmarks.fuzzing.plans import judge_block
from benchmarks.fuzzing.switching import Hostile, Thinker, switch
from networks.graph import Network, Signal
from networks.readers.sumo import read_sumo

PLANS_A_BLOCK = 10_000
HOURS_A_BLOCK = 20.0
MADE_UP_SIGNALS = 20  # of one block of switching
THINK_S = {"hostile": 1.0, "rolling": 5.0, "pressure": 5.0}  # a hostile controller picks 1 to 5 s by itself

Block = tuple[str, str, float]  # kind, seed, plans or hours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=1_000_000)
    parser.add_argument("--junction-hours", type=float, default=10_000.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--net", action="append", type=Path, default=[], help="SUMO net; may be given several times")
    parser.add_argument(
        "--rolling-share", type=float, default=0.1, help="of the hours, by the live controller (needs --net)"
    )
    parser.add_argument("--pressure-share", type=float, default=0.2, help="by max pressure (needs --net)")
    parser.add_argument("--out", type=Path, help="finished blocks, one JSON document a line; continued if it exists")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    nets = tuple(str(net) for net in options.net)
    todo = _blocks(options, bool(nets))
    done = _finished(options.out, nets)
    waiting = [block for block in todo if _key(block) not in done]
    results = [done[_key(block)] for block in todo if _key(block) in done]
    begin_s = time.monotonic()
    for count, result in enumerate(_work(waiting, nets, options.jobs), 1):
        results.append(result)
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
        left_s = (time.monotonic() - begin_s) / count * (len(waiting) - count)
        print(_progress(results, len(todo), left_s), file=sys.stderr, flush=True)
    report = summarise(results)
    print(json.dumps(report, indent=None if options.json else 2))
    sys.exit(1 if report["found"] else 0)


def run_block(block: Block, nets: tuple[str, ...]) -> dict[str, Any]:
    """One block in whatever process; the answer is what goes into the file."""
    kind, seed, amount = block
    begin_s = time.process_time()
    if kind == "plans":
        real = [signal for net in nets for signal in _network(net).signals if signal.link_count > 1]
        body = vars(judge_block(seed, int(amount), real))
    else:
        body = vars(_switch(kind, seed, amount, nets))
    return {"block": _key(block), "kind": kind, "nets": nets, "cpu_s": time.process_time() - begin_s, **body}


def _switch(kind: str, seed: str, hours: float, nets: tuple[str, ...]) -> Any:
    rng = Random(seed)
    thinker: Thinker
    if kind == "hostile":
        network = _network(rng.choice(nets)) if nets and rng.random() < 0.3 else None
        signals = _controlled(network) if network else [make_signal(rng, f"S{n}") for n in range(MADE_UP_SIGNALS)]
        thinker = Hostile(signals, rng)
    else:
        from benchmarks.fuzzing.real_controllers import RealController

        network = _network(rng.choice(nets))
        signals = list(network.signals)
        thinker = RealController(kind, network, rng)
    seconds = max(1, round(hours * 3600.0 / len(signals)))
    return switch(thinker, signals, rng, seconds, think_s=THINK_S[kind], judge_own=network is None)


def _controlled(network: Network) -> list[Signal]:
    return [signal for signal in network.signals if len(signal.stages) > 1]


@lru_cache(maxsize=8)
def _network(net: str) -> Network:
    return read_sumo(Path(net))


def _blocks(options: argparse.Namespace, with_nets: bool) -> list[Block]:
    """All blocks, the kinds mixed evenly, so that a run that is cut short has seen something of each."""
    shares = {"rolling": options.rolling_share, "pressure": options.pressure_share} if with_nets else {}
    shares["hostile"] = 1.0 - sum(shares.values())
    amounts = {"plans": (float(options.plans), float(PLANS_A_BLOCK))}
    amounts |= {kind: (options.junction_hours * share, HOURS_A_BLOCK) for kind, share in shares.items()}
    placed: list[tuple[float, Block]] = []
    for kind, (whole, part) in amounts.items():
        count = math.ceil(whole / part - 1e-9)
        for n in range(count):
            block = (kind, f"{options.seed}/{n}", min(part, whole - n * part))
            placed.append(((n + 0.5) / count, block))
    return [block for _, block in sorted(placed)]


def _key(block: Block) -> str:
    return "/".join(map(str, block))


def _finished(out: Path | None, nets: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    if out is None or not out.exists():
        return {}
    rows = [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]
    return {row["block"]: row for row in rows if tuple(row["nets"]) == nets}


def _work(blocks: list[Block], nets: tuple[str, ...], jobs: int) -> Iterator[dict[str, Any]]:
    if jobs <= 1:
        yield from (run_block(block, nets) for block in blocks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run_block, block, nets) for block in blocks]):
            yield future.result()


def _progress(results: list[dict[str, Any]], blocks: int, left_s: float) -> str:
    report = summarise(results)
    return (
        f"{len(results)}/{blocks} blocks, {report['plans']['judged']} plans, "
        f"{report['switching']['junction_hours']:.0f} h, found {report['found']}, {left_s / 60.0:.0f} min to go"
    )


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of all blocks; `found` counts everything that must not be."""
    plans = [r for r in results if r["kind"] == "plans"]
    hours = [r for r in results if r["kind"] != "plans"]
    wrong = {name: sum(r[name] for r in plans) for name in ("unsafe_approved", "safe_refused", "other_findings")}
    violations = _sum(hours, "violations")
    return {
        "found": wrong["unsafe_approved"] + wrong["safe_refused"] + wrong["other_findings"] + violations.total(),
        "plans": {
            "judged": sum(r["plans"] for r in plans),
            "approved": sum(r["approved"] for r in plans),
            **wrong,
            "kinds": dict(sorted(_sum(plans, "kinds").items())),
            "refused_for": dict(_sum(plans, "rules").most_common()),
            "cpu_s": round(sum(r["cpu_s"] for r in plans), 1),
        },
        "switching": {
            "junction_hours": sum(r["seconds"] for r in hours) / 3600.0,
            "hours_by_controller": {
                kind: round(sum(r["seconds"] for r in hours if r["kind"] == kind) / 3600.0, 1) for kind in THINK_S
            },
            "unsafe_states": violations.total(),
            "violations": dict(violations),
            "changes_of_lamps": sum(r["switches"] for r in hours),
            "longest_red_s": max((r["longest_red_s"] for r in hours), default=0.0),
            "longest_red_of_allowed": max((r["longest_red_share"] for r in hours), default=0.0),
            "counts": dict(sorted(_sum(hours, "counts").items())),
            "cpu_s_by_controller": {
                kind: round(sum(r["cpu_s"] for r in hours if r["kind"] == kind), 1) for kind in THINK_S
            },
        },
        "examples": [example for r in results for example in r["examples"]][:10],
    }


def _sum(results: list[dict[str, Any]], name: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for result in results:
        total.update(result[name])
    return total


if __name__ == "__main__":
    main()
