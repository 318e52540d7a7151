"""A binary heap in arrays, for compiled searches: the smallest key lies first, the caller keeps `size`."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@njit(cache=True)
def push(keys: Floats, items: Ints, size: int, key: float, item: int) -> int:
    """Add an item; the size now. A heap that is full stays as it is."""
    if size >= len(keys):
        return size
    at = size
    while at > 0:
        up = (at - 1) >> 1
        if keys[up] <= key:
            break
        keys[at], items[at] = keys[up], items[up]
        at = up
    keys[at], items[at] = key, item
    return size + 1


@njit(cache=True)
def drop_first(keys: Floats, items: Ints, size: int) -> int:
    """Take the first away, which the caller has read; the size left."""
    size -= 1
    key, item = keys[size], items[size]
    at = 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        if down + 1 < size and keys[down + 1] < keys[down]:
            down += 1
        if keys[down] >= key:
            break
        keys[at], items[at] = keys[down], items[down]
        at = down
    keys[at], items[at] = key, item
    return size
