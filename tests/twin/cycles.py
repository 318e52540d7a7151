"""Cycles to store: made from a number, so that what comes back can be checked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from networks.state import QUANTILES, Estimate, Forecast, LampView, NetworkState, VehicleTable
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.safety import approve
from tests.twin import small_city as town
from twin.cycle_record import CycleRecord
from twin.inbox import Inbox
from twin.privacy import Pseudonyms
from twin.store import Store

NETWORK = town.small_network()
SIGNAL = NETWORK.signals[0]
CYCLE_S = 5.0


def record(number: int, *, forecast: bool = True) -> CycleRecord:
    """Cycle `number` from 1: one loop reading with that count, a safe plan approved and an unsafe one refused."""
    now_s = town.T0_S + number * CYCLE_S
    inbox = Inbox(NETWORK, town.DETECTORS, pseudonyms=Pseudonyms(b"test"))
    for feed, message in (
        ("loops", town.loops(now_s, town.reading("loop0", count=number % 10), town.reading("ghost"))),
        ("v2x", town.vehicle(now_s)),
        ("signals", town.lamps(now_s)),
        ("control", town.notice(now_s)),
        ("receipts", town.receipt(now_s, version=number)),
        ("weather", b"rain"),
    ):
        inbox.offer(town.frame(feed, message, counter=number, received_at_s=now_s), now_s)
    lamps = LampRecord.start("Gr", now_s - 30.0)
    good, bad = (
        Proposal(plan(now_s + 1, steps), cost_veh_s=number + 0.1, next_best_veh_s=number + 2.5, served_veh=4.0)
        for steps in ((("Gr", 5), ("yr", 3), ("rr", 2), ("rG", 20)), (("rG", 20),))
    )
    proven = approve(good.plan, SIGNAL, lamps, now_s=now_s, version=number)
    return CycleRecord(
        now_s=now_s,
        batches=inbox.take(now_s),
        state=state(now_s, number),
        forecast=a_forecast(now_s) if forecast else None,
        proposals=(good, bad),
        lamps=(lamps,),
        approved=(proven,),
        refused=((bad, ("yellow",)),),
        receipts=inbox.take_receipts(now_s),
        quarantined=inbox.quarantine.drain(),
        report={"cycle": number, "stage_ms": {"fusion": 1.5}},
    )


def plan(valid_from_s: float, steps: tuple[tuple[str, float], ...]) -> SignalPlan:
    lamp_steps = tuple(LampStep(lamps, float(duration_s)) for lamps, duration_s in steps)
    return SignalPlan(0, "J", lamp_steps, valid_from_s, valid_from_s + 30.0, source="test", reason="a queue of 4 veh")


def state(now_s: float, number: int, edges: int = 4, lanes: int = 4, movements: int = 2) -> NetworkState:
    def known(count: int, value: float) -> Estimate:
        return Estimate(np.full(count, value), np.full(count, 0.01), np.zeros(count), np.ones(count, np.bool_))

    return NetworkState(
        now_s=now_s,
        edge_flow_vps=known(edges, number / 8),
        edge_speed_mps=known(edges, 10.0),
        edge_density_vpm=Estimate.unknown(edges),
        lane_queue_veh=known(lanes, 2.0),
        lane_vehicles=known(lanes, 3.0),
        movement_share=known(movements, 1.0),
        vehicles=VehicleTable.empty(),
        lamps=(LampView("Gr", np.zeros(2), now_s, number),),
        coverage=0.5,
        unhealthy=("weather: silent",),
    )


def a_forecast(made_at_s: float, edges: int = 4, horizons: int = 3) -> Forecast:
    shape = (horizons, edges, len(QUANTILES))
    return Forecast(
        made_at_s,
        np.arange(1, horizons + 1) * 300.0,
        QUANTILES,
        np.full(shape, 0.2),
        np.full(shape, 9.0),
        np.full((horizons, edges, 4), 0.25),
        np.ones(edges, np.bool_),
        ("profile",),
    )


def write_until_killed(folder: Path, cycles_per_segment: int) -> None:
    """Append cycles for ever, saying after each commit which is on the disk."""
    with Store(folder, cycles_per_segment=cycles_per_segment) as store:
        while True:
            number = store.append_cycle(record(store.last_cycle + 1))
            store.flush()
            os.write(sys.stdout.fileno(), b"%d\n" % number)


if __name__ == "__main__":
    write_until_killed(Path(sys.argv[1]), int(sys.argv[2]))
