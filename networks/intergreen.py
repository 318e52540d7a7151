"""Intergreen times between conflicting links."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from networks.graph import Bools, Floats, Programme


def intergreen_matrix(
    conflicts: Bools,
    turns: Sequence[int],
    pedestrian: Bools,
    clearance_s: Floats,
    programmes: Sequence[Programme],
    yellow_s: float,
    all_red_s: float,
) -> Floats:
    """Seconds from the end of green of link i to the start of green of link j, 0 where they do not conflict."""
    count = len(conflicts)
    matrix = np.zeros((count, count))
    leaving = np.where(pedestrian, clearance_s, yellow_s + all_red_s)
    matrix[conflicts] = np.broadcast_to(leaving[:, None], (count, count))[conflicts]
    return np.ceil(matrix)
