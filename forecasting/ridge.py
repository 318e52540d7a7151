"""The linear forecaster of one city: a ridge shared by all places, with graph terms, and a shrunk correction of each.

Fitted in closed form on the city's training part. The network reads its forecast, so it is fitted block by block in
time as well: a window of the training part is forecast by a ridge that never saw its block (cross-fitting).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from forecasting.city_context import CityContext
from forecasting.features import LINEAR, OWN, own_features, window_features
from forecasting.series import STEPS_OUT

BLOCKS = 4
_SHARED_TOKENS = 40_000
_OWN_WINDOWS, _OWN_TOKENS = 3000, 1_500_000  # the smaller counts
_SHARED_WEIGHT = 20.0
_OWN_WEIGHTS = (1e5, 3000.0, 600.0, 150.0)  # pseudo-windows that speak for no correction; the block left out chooses
_CLIP = 4.0


@dataclass(frozen=True, slots=True)
class CityRidge:
    """Index 0..BLOCKS-1 of the weights: the block was left out; BLOCKS: everything was seen."""

    shared: torch.Tensor  # (BLOCKS + 1, LINEAR + 1, 12)
    own: torch.Tensor  # (BLOCKS + 1, N, OWN, 12)
    edges: torch.Tensor  # (BLOCKS - 1,) first grid rows of blocks 1..
    own_weight: float

    def predict(self, linear: torch.Tensor, starts: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Shared and corrected deviation over scale, (N, B, 12) each. `starts` (B,): cross-fitted for these rows."""
        if starts is None:
            shared = linear @ self.shared[-1, :-1] + self.shared[-1, -1]
            return shared, shared + torch.bmm(own_features(linear), self.own[-1])
        block, lengths = torch.unique_consecutive(torch.bucketize(starts, self.edges, right=True), return_counts=True)
        shared = torch.empty(*linear.shape[:2], STEPS_OUT)
        both = torch.empty_like(shared)
        begin = 0
        for b, length in zip(block.tolist(), lengths.tolist(), strict=True):
            at = slice(begin, begin + length)
            part = linear[:, at]
            shared[:, at] = part @ self.shared[b, :-1] + self.shared[b, -1]
            both[:, at] = shared[:, at] + torch.bmm(own_features(part), self.own[b])
            begin += length
        return shared, both


def fit_ridge(context: CityContext, starts: torch.Tensor, *, seed: int = 0) -> CityRidge:
    """Fit on the windows that begin at these grid rows, all inside the training part."""
    rng = np.random.default_rng(seed)
    most = min(_OWN_WINDOWS, max(8 * BLOCKS, _OWN_TOKENS // context.nodes))
    grid = torch.from_numpy(np.sort(rng.permutation(starts.numpy())[:most]))
    cuts = np.linspace(0, len(grid), BLOCKS + 1).astype(int)
    edges = grid[np.minimum(cuts[1:-1], len(grid) - 1)]
    share = min(1.0, _SHARED_TOKENS / max(1, len(grid) * context.nodes))
    gram, moment = torch.zeros(BLOCKS, LINEAR + 1, LINEAR + 1), torch.zeros(BLOCKS, LINEAR + 1, STEPS_OUT)
    for block, linear, target in _chunks(context, grid, cuts):
        keep = torch.from_numpy(rng.random(linear.shape[:2]) < share)
        f = torch.cat([linear[keep], torch.ones(int(keep.sum()), 1)], dim=1)
        gram[block] += f.T @ f
        moment[block] += f.T @ target[keep]
    shared = torch.stack([solve(*_without(gram, moment, b), _SHARED_WEIGHT) for b in range(BLOCKS + 1)])
    gram = torch.zeros(BLOCKS, context.nodes, OWN, OWN)
    moment = torch.zeros(BLOCKS, context.nodes, OWN, STEPS_OUT)
    for block, linear, target in _chunks(context, grid, cuts):
        left = target - (linear @ shared[block, :-1] + shared[block, -1])
        f = own_features(linear)
        gram[block] += f.transpose(1, 2) @ f
        moment[block] += f.transpose(1, 2) @ left
    best, weight = None, _OWN_WEIGHTS[0]
    for candidate in _OWN_WEIGHTS:
        own = torch.stack([solve(*_without(gram, moment, b), candidate) for b in range(BLOCKS)])
        gain = sum(_gain(own[b], gram[b], moment[b]) for b in range(BLOCKS))
        if best is None or gain > best:
            best, weight = gain, candidate
    own = torch.stack([solve(*_without(gram, moment, b), weight) for b in range(BLOCKS + 1)])
    return CityRidge(shared, own, edges, weight)


def _chunks(context: CityContext, grid: torch.Tensor, cuts: np.ndarray):  # type: ignore[no-untyped-def]
    """(block, linear (N, B, F), target (N, B, 12)) with missing targets at the mean of the window's known ones."""
    size = max(1, 40_000 // context.nodes)
    for block in range(BLOCKS):
        for begin in range(int(cuts[block]), int(cuts[block + 1]), size):
            part = window_features(context, grid[begin : min(begin + size, int(cuts[block + 1]))])
            known = part.target_known.float()
            count = known.sum(dim=-1, keepdim=True)
            target = part.target.clamp(-_CLIP, _CLIP) * known
            target = torch.where(part.target_known, target, target.sum(dim=-1, keepdim=True) / count.clamp(min=1.0))
            good = enough_known(count)
            yield block, part.linear * good, target * good


def enough_known(count: torch.Tensor) -> torch.Tensor:
    """1 where a window knows half of the targets that any of these windows does, of (..., 1) known targets."""
    most = min(STEPS_OUT, int(count.max())) if count.numel() else 0
    return (count >= max(1, most // 2)).float()


def _without(gram: torch.Tensor, moment: torch.Tensor, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    others = [b for b in range(BLOCKS) if b != block]
    return gram[others].sum(dim=0), moment[others].sum(dim=0)


def solve(gram: torch.Tensor, moment: torch.Tensor, weight: float) -> torch.Tensor:
    """Ridge weights of normal equations; `weight` pseudo-observations speak for zero."""
    eye = torch.eye(gram.shape[-1], dtype=torch.float64)
    solved: torch.Tensor = torch.linalg.solve(gram.double() + weight * eye, moment.double())
    return solved.float()


def _gain(own: torch.Tensor, gram: torch.Tensor, moment: torch.Tensor) -> float:
    """Fall of the squared error on a block, from its sums alone."""
    return float((2.0 * (own * moment).sum() - (own * (gram @ own)).sum()).double())
