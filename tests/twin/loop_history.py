"""Histories of a run in which one loop reports, some of it late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from networks.batches import CountBatch
from tests.twin import cycles
from tests.twin import small_city as town
from twin.cycle_record import CycleRecord
from twin.store import Store

T0_S = int(town.T0_S)
CYCLE_S = int(cycles.CYCLE_S)
PLAIN = cycles.record(1, forecast=False)


class Reading(NamedTuple):
    """Of loop 0, over the cycle that ended at second `measured` after the start."""

    measured: int
    available: float
    count: int = 1
    speed_mps: float = 10.0


def record(at: int, readings: Sequence[Reading] = (), state: bool = True) -> CycleRecord:
    """The cycle at a second after the start; flow n/8 veh/s on every edge in cycle n."""
    rows = [r for r in readings if at - CYCLE_S < r.available <= at]
    columns = [np.array(column, float) for column in zip(*rows, strict=True)] or [np.zeros(0)] * 4
    counts = CountBatch(
        detector=np.zeros(len(rows), np.int32), count=columns[2].astype(np.int32), occupancy=np.zeros(len(rows)),
        speed_mps=columns[3], interval_s=np.full(len(rows), float(CYCLE_S)), measured_at_s=T0_S + columns[0],
        available_at_s=T0_S + columns[1],
    )  # fmt: skip
    return replace(
        PLAIN, now_s=float(T0_S + at), batches=replace(PLAIN.batches, counts=counts), proposals=(), approved=(),
        refused=(), state=cycles.state(T0_S + at, at // CYCLE_S) if state else None,
    )  # fmt: skip


def write_history(
    folder: Path,
    seconds: int,
    readings: Sequence[Reading] = (),
    *,
    silent: tuple[int, int] = (0, 0),
    per_segment: int = 20,
) -> None:
    """Cycles up to a second; in `silent` there is no state."""
    with Store(folder, cycles_per_segment=per_segment) as store:
        for at in range(CYCLE_S, seconds + 1, CYCLE_S):
            store.append_cycle(record(at, readings, state=not silent[0] <= at < silent[1]))
