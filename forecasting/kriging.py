"""Simple kriging over a road graph: the value of a place from those of others, weighted by distance and likeness.

The covariance of two places is a share that falls exponentially with the way between them, a share that falls with
the difference of their attributes, and a nugget of each alone. Shares, lengths and nuggets are mixed by how well each
known place is foretold by the others.

Sources: Cressie (1993), Statistics for Spatial Data, section 3.2; leave-one-out in closed form, Dubrule (1983),
Cross validation of kriging in a unique neighborhood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import dijkstra
from scipy.spatial.distance import cdist

from networks.graph import Bools, Floats

_REACH = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # times the typical way to the nearest place
_LIKENESS = (0.0, 0.3, 0.7, 1.0)  # share of the covariance that attributes have
_NUGGET = (0.1, 0.3, 1.0, 3.0, 10.0, 100.0)
_JUDGING = 500  # places, drawn, weigh the choices
_COUNTS = 0.02  # of the best choice's weight, below which a choice is left out


@dataclass(frozen=True, slots=True)
class Kriging:
    """Weights that foretell places from the known ones; values have mean zero over the known places."""

    weights: Floats  # (M, S) unknown places from the known
    left_out: Floats  # (S, S) each known place from the others; zero on the diagonal


def ways_between(nodes: int, edges: np.ndarray, length_m: np.ndarray) -> Floats:
    """Shortest ways (N, N) over the edges, driven in either direction, m; infinite where there is none.

    edges (2, L), length_m (L,): NaN or 0 takes the typical length.
    """
    if not edges.size:
        return np.where(np.eye(nodes, dtype=np.bool_), 0.0, np.inf)
    good = np.isfinite(length_m) & (length_m > 0)
    typical = float(np.median(length_m[good])) if good.any() else 1.0
    length = np.where(good, length_m, typical).astype(np.float64)
    order = np.argsort(-length, kind="stable")  # of two edges between the same places the shorter one is kept
    graph = sparse.lil_array((nodes, nodes))
    graph[edges[0][order], edges[1][order]] = length[order]
    ways: Floats = dijkstra(sparse.csr_array(graph), directed=False)
    return ways


def fit_kriging(values: Floats, known: Bools, way_m: Floats, traits: Floats) -> Kriging:
    """Weigh covariances by how well each foretells known places that are left out.

    A covariance counts by its mean absolute error to the power of minus the number of places, as its likelihood would
    under Laplace errors that the cases share: a few places do not choose one, many do.

    values  (S, K)  of the known places, in K cases, mean zero
    known   (N,)    S of them
    way_m   (N, N)  shortest ways
    traits  (N, F)  attributes, standardised
    """
    at, other = np.flatnonzero(known), np.flatnonzero(~known)
    some = np.sort(np.random.default_rng(0).permutation(len(at))[:_JUDGING])
    unit = _typical_way(way_m[np.ix_(at, at)])
    choices = list(product(_REACH, _LIKENESS if traits.shape[1] else (0.0,), _NUGGET))
    error = np.array([
        np.abs(foretell_by_others(inverse) @ values[some] - values[some]).mean()
        for inverse in _inverses(way_m[np.ix_(at[some], at[some])] / unit, traits[at[some]], choices)
    ])  # fmt: skip
    weight = (error / max(float(error.min()), 1e-12)) ** -float(len(some))
    kept = np.flatnonzero(weight >= _COUNTS * weight.max())
    answer = Kriging(np.zeros((len(other), len(at))), np.zeros((len(at), len(at))))
    way, alike = way_m[np.ix_(other, at)] / unit, _alike(traits[other], traits[at])
    told = _inverses(way_m[np.ix_(at, at)] / unit, traits[at], [choices[k] for k in kept])
    for k, inverse in zip(kept, told, strict=True):
        part = weight[k] / weight[kept].sum()
        reach, share, _ = choices[k]
        answer.weights[:] += part * ((1.0 - share) * np.exp(-way / reach) + share * alike) @ inverse
        answer.left_out[:] += part * foretell_by_others(inverse)
    return answer


def _inverses(way: Floats, traits: Floats, choices: Sequence[tuple[float, float, float]]) -> Iterator[Floats]:
    """Inverse covariances (S, S) of known places, nugget included, one a choice; choices that differ in their nugget
    alone follow each other."""
    alike, before = _alike(traits, traits), None
    for reach, share, nugget in choices:
        if before != (reach, share):
            size, vectors = np.linalg.eigh((1.0 - share) * np.exp(-way / reach) + share * alike)
            size = np.maximum(size, 0.0)  # ways over a graph need not be distances of a space
            before = reach, share
        yield (vectors / (size + nugget)) @ vectors.T


def foretell_by_others(inverse: Floats) -> Floats:
    """(S, S) what foretells each known place from the others, by an inverse covariance; zero on the diagonal."""
    weights = -inverse / np.diag(inverse)[:, None]
    np.fill_diagonal(weights, 0.0)
    return weights


def _typical_way(way_m: Floats) -> float:
    """Median way to the nearest other place; 1 where nobody is reached."""
    nearest = np.where(np.eye(len(way_m), dtype=np.bool_), np.inf, way_m).min(axis=1, initial=np.inf)
    reached = nearest[np.isfinite(nearest) & (nearest > 0)]
    return float(np.median(reached)) if len(reached) else 1.0


def _alike(some: Floats, others: Floats) -> Floats:
    """Gaussian likeness (A, B) of standardised attributes."""
    if not some.shape[1]:
        return np.zeros((len(some), len(others)))
    likeness: Floats = np.exp(-cdist(some, others, "sqeuclidean") / (2.0 * some.shape[1]))
    return likeness
