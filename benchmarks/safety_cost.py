"""What safety costs: microseconds a call for the proof, the interstage, the record and the roadside controller.

    python benchmarks/safety_cost.py --net NET.net.xml[.gz] [--net ...] [--rounds 5] [--json]

For every signal of the nets and every ordered pair of its stages a plan is made as the live controller makes it: hold
the stage, change, stand. The figures are means over all of them, the best of several rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from networks.graph import Signal
from networks.readers.sumo import read_sumo
from signals.executor import Head
from signals.fixed import own_programmes
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.safety import approve, find_change_violations
from signals.transitions import settle
from signals.watch import LampWatch

FROM_S = 1_772_000_000.0
HOLD_S, STAND_S, VALIDITY_S = 4.0, 60.0, 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", action="append", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signals = [s for net in options.net for s in read_sumo(net).signals if len(s.stages) > 1]
    figures = measure(signals, options.rounds)
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:34} {value:10.1f}")


def measure(signals: list[Signal], rounds: int) -> dict[str, float]:
    """Microseconds a call by name, and what was measured on."""
    pairs = [(s, a.state, b.state) for s in signals for a in s.stages for b in s.stages if a.state != b.state]
    records = [LampRecord.start(a, FROM_S - 20.0) for _, a, _ in pairs]
    ways = [settle(s, r, b, FROM_S + HOLD_S) for (s, _, b), r in zip(pairs, records, strict=True)]
    plans = [_plan(s, a, way, b) for (s, a, b), way in zip(pairs, ways, strict=True)]
    jobs = list(zip(pairs, records, ways, plans, strict=True))
    first = [(s, r, (w or (LampStep(b, 1.0),))[0].state) for (s, _, b), r, w, _ in jobs]

    def prove() -> None:
        for (signal, _, _), record, _, plan in jobs:
            approve(plan, signal, record, now_s=FROM_S, version=1)

    def lead() -> None:
        for (signal, _, state), record, _, _ in jobs:
            settle(signal, record, state, FROM_S + HOLD_S)

    def follow() -> None:
        for _, record, state in first:
            record.then(state, FROM_S)

    def monitor() -> None:
        for signal, record, state in first:
            find_change_violations(signal, record, state, FROM_S)

    return {
        "signals": float(len(signals)),
        "plans": float(len(plans)),
        "links a signal, mean over plans": sum(s.link_count for s, _, _ in pairs) / len(pairs),
        "steps a plan": sum(len(p.steps) for p in plans) / len(plans),
        "approve, us": _best_us(prove, len(jobs), rounds),
        "settle, us": _best_us(lead, len(jobs), rounds),
        "record.then, us": _best_us(follow, len(jobs), rounds),
        "find_change_violations, us": _best_us(monitor, len(jobs), rounds),
        "head.step, own programme, us": _heads_us(signals, rounds),
    }


def _plan(signal: Signal, here: str, way: tuple[LampStep, ...], there: str) -> SignalPlan:
    steps = (LampStep(here, HOLD_S), *way, LampStep(there, STAND_S))
    return SignalPlan(0, signal.id, steps, FROM_S, FROM_S + VALIDITY_S, source="benchmark")


def _heads_us(signals: list[Signal], rounds: int) -> float:
    """A head and the watch over it, a second of ten minutes."""
    seconds = 600

    def run() -> None:
        for signal in signals:
            head = Head(signal, own_programmes(signal, epoch_of_zero_s=FROM_S), FROM_S)
            watch = LampWatch([signal])
            for second in range(seconds):
                watch.look(FROM_S + second, 0, head.step(FROM_S + second), shipped=True)

    return _best_us(run, len(signals) * seconds, max(1, rounds // 2))


def _best_us(run: Callable[[], None], calls: int, rounds: int) -> float:
    run()
    best_s = float("inf")
    for _ in range(rounds):
        begin_s = time.perf_counter()
        run()
        best_s = min(best_s, time.perf_counter() - begin_s)
    return best_s / calls * 1e6


if __name__ == "__main__":
    main()
