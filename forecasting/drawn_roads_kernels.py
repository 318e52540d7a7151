"""The cell transmission model (Daganzo 1994) of drawn roads, with ramps and a capacity drop. A pure kernel."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WAVE_KPH = 18.0  # of a jam, against the traffic


@njit(cache=True)
def run_cells(
    entrance_vph: Floats, ramp_vph: Floats, off_frac: Floats, free_kph: Floats, capacity_vph: Floats,
    length_km: Floats, factor: Floats, slowing: Floats, drop: Floats, cell_step_s: float, count: int,
    flow_vph: Floats, speed_kph: Floats,
) -> None:  # fmt: skip
    """Fill mean flow and speed (T, C, K) of C corridors of K cells.

    entrance_vph (T, C), ramp_vph (T, C, K): demand; what does not fit waits outside
    off_frac (C, K): share that leaves at the end of a cell; factor (T, C, K) on the capacity
    slowing, drop (C,): shares of free speed lost below capacity, of capacity lost in a jam
    count: steps of the cells, of cell_step_s each, in a row
    """
    steps, corridors, cells = ramp_vph.shape
    hours = cell_step_s / 3600.0
    for c in range(corridors):
        density = np.zeros(cells)
        queue = np.zeros(cells)
        send = np.zeros(cells)
        room = np.zeros(cells)
        for t in range(steps):
            for _ in range(count):
                for k in range(cells):
                    most = capacity_vph[c, k] * factor[t, c, k]
                    critical = capacity_vph[c, k] / free_kph[c, k]
                    jam = critical + capacity_vph[c, k] / WAVE_KPH
                    load = min(1.0, density[k] / critical)
                    pace = free_kph[c, k] * (1.0 - slowing[c] * load**3)
                    if density[k] > critical:
                        most *= 1.0 - drop[c]
                    send[k] = min(pace * density[k], most, density[k] * length_km[c, k] / hours)
                    room[k] = max(0.0, min(capacity_vph[c, k] * factor[t, c, k], WAVE_KPH * (jam - density[k])))
                queue[0] += entrance_vph[t, c] * hours
                inflow = min(queue[0] / hours, room[0])
                queue[0] -= inflow * hours
                for k in range(cells):
                    stay = 1.0 - off_frac[c, k]
                    out = send[k]
                    ramp = 0.0
                    if k + 1 < cells:
                        queue[k + 1] += ramp_vph[t, c, k + 1] * hours
                        ramp = min(queue[k + 1] / hours, 0.4 * room[k + 1])
                        queue[k + 1] -= ramp * hours
                        out = min(out, (room[k + 1] - ramp) / stay)
                    density[k] = max(0.0, density[k] + (inflow - out) * hours / length_km[c, k])
                    critical = capacity_vph[c, k] / free_kph[c, k]
                    pace = free_kph[c, k] * (1.0 - slowing[c] * min(1.0, density[k] / critical) ** 3)
                    if density[k] > critical:
                        pace = min(pace, out / density[k])
                    flow_vph[t, c, k] += out / count
                    speed_kph[t, c, k] += max(pace, 3.0) / count
                    inflow = out * stay + ramp
