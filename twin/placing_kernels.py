"""Nearest lane of a measured point, by a uniform grid over the lanes' segments."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@njit(cache=True)
def place_points(
    x_m: Floats,
    y_m: Floats,
    heading_rad: Floats,
    prior_lane: Ints,
    segments: Floats,
    segment_lane: Ints,
    cells: Floats,
    cell_offsets: Ints,
    cell_segments: Ints,
    reach_m: float,
    out_lane: Ints,
    out_position_m: Floats,
    out_lateral_m: Floats,
    out_prior_position_m: Floats,
    out_prior_lateral_m: Floats,
) -> None:
    """Write the best lane of each point (N,) and how far off its centre the point lies; -1 when none is in reach.

    segments  (S, 7)  x0, y0, unit dx, unit dy, length m, lane position of its start m, lane metres per drawn metre
    cells     (4,)    grid origin x, origin y, cell size, columns; rows follow from cell_offsets

    A lane fits when the point is within `reach_m` of it, not more than 1.5 m beyond its ends and headed along it
    within 45 degrees. `out_prior_*` tell the same of `prior_lane`, lateral inf when it does not fit.
    """
    columns = int(cells[3])
    rows = (len(cell_offsets) - 1) // columns
    for i in range(len(x_m)):
        out_lane[i] = -1
        out_position_m[i] = 0.0
        out_lateral_m[i] = math.inf
        out_prior_position_m[i] = 0.0
        out_prior_lateral_m[i] = math.inf
        column = int((x_m[i] - cells[0]) // cells[2])
        row = int((y_m[i] - cells[1]) // cells[2])
        if column < 0 or row < 0 or column >= columns or row >= rows:
            continue
        cos_h, sin_h = math.cos(heading_rad[i]), math.sin(heading_rad[i])
        cell = row * columns + column
        for j in range(cell_offsets[cell], cell_offsets[cell + 1]):
            s = cell_segments[j]
            if cos_h * segments[s, 2] + sin_h * segments[s, 3] < 0.7:
                continue
            dx, dy = x_m[i] - segments[s, 0], y_m[i] - segments[s, 1]
            along = dx * segments[s, 2] + dy * segments[s, 3]
            if along < -1.5 or along > segments[s, 4] + 1.5:
                continue
            lateral = abs(dx * segments[s, 3] - dy * segments[s, 2])
            if lateral > reach_m:
                continue
            inside = min(max(along, 0.0), segments[s, 4])
            position = segments[s, 5] + inside * segments[s, 6]
            if lateral < out_lateral_m[i]:
                out_lane[i], out_position_m[i], out_lateral_m[i] = segment_lane[s], position, lateral
            if segment_lane[s] == prior_lane[i] and lateral < out_prior_lateral_m[i]:
                out_prior_position_m[i], out_prior_lateral_m[i] = position, lateral
