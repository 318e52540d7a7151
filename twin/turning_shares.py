"""Which way the vehicles of each lane turn: as the prior says, and by what has been counted since."""

from __future__ import annotations

import numpy as np

from networks.graph import Network
from networks.state import Estimate
from twin.edge_estimates import PRIOR_AGE_S
from twin.fusion_kernels import Lanes
from twin.prior_view import PriorView, turning_shares

PRIOR_VEHICLES = 15.0  # weight of the prior turning shares, in vehicles
HITS_HALF_LIFE_S = 1800.0


class TurningShares:
    """Shares of the movements (M,) in the vehicles of their lanes."""

    def __init__(self, network: Network, prior: PriorView | None) -> None:
        self.prior, self._known = turning_shares(network, prior)
        self._from_lane, self._lane_count = network.movements.from_lane, len(network.lanes.ids)
        self._age_s = np.full(len(self._from_lane), PRIOR_AGE_S)
        self._hits_before = np.zeros(len(self._from_lane))

    def learn(self, lanes: Lanes, seconds: float) -> None:
        """Bring `lanes.share` up to date with the vehicles seen to turn in the last `seconds`; older ones fade."""
        lanes.hits[:] *= 0.5 ** (seconds / HITS_HALF_LIFE_S)
        gained = lanes.hits > self._hits_before
        self._age_s = np.where(gained, 0.0, self._age_s + seconds)
        self._hits_before = lanes.hits.copy()
        weight = PRIOR_VEHICLES * self.prior + lanes.hits
        total = np.bincount(self._from_lane, weight, self._lane_count)
        lanes.share[:] = weight / total[self._from_lane]

    def estimate(self, lanes: Lanes) -> Estimate:
        total = np.bincount(self._from_lane, lanes.hits, self._lane_count)[self._from_lane]
        share = lanes.share.copy()
        ways = np.bincount(self._from_lane, minlength=self._lane_count)[self._from_lane]
        variance = np.where(ways > 1, share * (1 - share) / (total + PRIOR_VEHICLES * self._known + 1), 0.0)
        valid = self._known | (ways == 1) | (total >= 5)
        return Estimate(share, variance, self._age_s.copy(), valid)
