"""Ways read off trees of predecessors."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def trace_ways(
    before: NDArray[np.int32], tree: NDArray[np.int32], target: NDArray[np.int32], ways: NDArray[np.int32]
) -> None:
    """Write each way backwards, target first; what is left of its row stays -1.

    before  (O, E) int32   predecessor of each edge in the tree of an origin; negative at the origin and out of reach
    tree    (N,) int32     row of `before`
    target  (N,) int32
    ways    (N, W) int32   written, filled with -1 by the caller; a way longer than W is left empty
    """
    for i in range(len(target)):
        edge, length = target[i], 0
        while edge >= 0 and length < ways.shape[1]:
            ways[i, length] = edge
            length += 1
            edge = before[tree[i], edge]
        if edge >= 0:
            ways[i, :] = -1
