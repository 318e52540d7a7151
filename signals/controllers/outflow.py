"""How fast lanes empty: as the signal at their end plans, and a gap travels up the queue.

What one junction plans to let go tells those before it how soon there is room again.
"""

from __future__ import annotations

import numpy as np

from networks.graph import Bools, Floats
from signals.controllers.approach_rows import LaneRoom
from signals.controllers.held_back import STALL_LASTS_S
from signals.controllers.junction_choice import Choice, JunctionModel, Tuning

WAVE_MPS = 5.0  # a gap travels up a standing queue at about 18 km/h
RED_OUTFLOW_VPS = 0.02


def planned_outflow(model: JunctionModel, choice: Choice, tuning: Tuning) -> Floats:
    """(L, horizon) what each approach lane can let go, second by second from the next cycle on."""
    open_at = np.zeros((len(model.lanes), tuning.horizon_s + 1), np.bool_)
    begin_s = 0.0
    for i, (stage, hold_s) in enumerate(zip(choice.sequence, choice.hold_each_s, strict=True)):
        end_s = begin_s + hold_s if i + 1 < len(choice.sequence) else open_at.shape[1]
        open_at[model.lane_open[stage], int(begin_s) : int(end_s)] = True
        if i + 1 < len(choice.sequence):
            begin_s = end_s + model.layout.change_s[stage, choice.sequence[i + 1]]
    return np.where(open_at[:, 1:], 1.0 / tuning.headway_s, RED_OUTFLOW_VPS)


def find_refill(
    model: JunctionModel, room: LaneRoom, outflow_vps: Floats, stalled: Bools, lane_length_m: Floats
) -> Floats:
    """(O, horizon) how fast receiving lanes empty: as the signal at their end plans, a backward wave later.

    outflow_vps (dense lanes, horizon) what signals let go, NaN where nothing is planned; stalled (dense lanes).
    """
    horizon = outflow_vps.shape[1]
    answer = np.repeat((0.1 + 0.4 * room.moving_frac[model.outs])[:, None], horizon, axis=1)
    for o in np.flatnonzero(~np.isnan(outflow_vps[model.outs, 0])).tolist():
        lane = model.outs[o]
        late_s = int(lane_length_m[lane] / WAVE_MPS)
        if late_s < horizon:
            answer[o, late_s:] = outflow_vps[lane, : horizon - late_s]
        if stalled[lane]:
            answer[o, : STALL_LASTS_S + late_s] = 0.0
    return answer
