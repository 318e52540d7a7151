"""The entries of an inverse that lie on the pattern of its factor, column by column from the last."""

from __future__ import annotations

from numba import njit


@njit(cache=True)
def invert_on_pattern(offset, row, lower, pivot, off_diagonal, diagonal):  # type: ignore[no-untyped-def]
    """Write Z = (L D L')^-1 on the pattern of L.

    offset        (n+1,) int32    columns of the strictly lower part of L
    row           (K,) int32      rows, ascending in each column
    lower         (K,) float64    L
    pivot         (n,) float64    D, > 0
    off_diagonal  (K,) float64    written: Z where L is
    diagonal      (n,) float64    written: diagonal of Z

    Source: Takahashi, Fagan and Chen (1973); Erisman and Tinney (1975), Communications of the ACM 18.
    """
    for j in range(len(pivot) - 1, -1, -1):
        begin, end = offset[j], offset[j + 1]
        own = 1.0 / pivot[j]
        for a in range(end - 1, begin - 1, -1):
            total = 0.0
            for b in range(begin, end):
                i, k = row[a], row[b]
                if i == k:
                    total += diagonal[i] * lower[b]
                    continue
                column, wanted = min(i, k), max(i, k)
                low, high = offset[column], offset[column + 1]
                while low < high:
                    middle = (low + high) // 2
                    if row[middle] < wanted:
                        low = middle + 1
                    else:
                        high = middle
                if low < offset[column + 1] and row[low] == wanted:
                    total += off_diagonal[low] * lower[b]
            off_diagonal[a] = -total
            own += lower[a] * total
        diagonal[j] = own
