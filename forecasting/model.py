"""The graph model: one network for every city, which corrects the city's own linear forecast and says how sure it is.

A place is a token. Blocks mix a token's own state with messages along the road graph in and against its direction,
from places alike, and from a few hub tokens that gather the whole city: the cost is linear in places and links.
Nothing is tied to a place or a step, so that a city never seen before needs no training; an `Adapter` may add it.
After Li et al. (2018, diffusion convolution), Shao et al. (2022, STID), Vaswani et al. (2017, attention; to hubs).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from forecasting.city_context import CityContext
from forecasting.features import CARRIED, EXTRA, LINEAR, WindowFeatures
from forecasting.ridge import CityRidge
from forecasting.series import STEPS_OUT
from networks.state import QUANTILES

MIDDLE = QUANTILES.index(0.5)
_BASES = 3 + CARRIED  # shared and corrected linear forecast, profile, what simple rules carry on
_TRUST = torch.tensor([2.0, 2.0, 0.0] + [-1.0] * CARRIED)  # in the bases, before anything was learnt; logits
_LEAST_GAP = 1e-3  # between neighbouring quantiles, in scales
# (gap, quantile): gap k lies between quantile k and its neighbour towards the middle; the middle has none
_STEPS = torch.tensor(
    [[float(MIDDLE < k <= q) - float(q <= k < MIDDLE) for q in range(len(QUANTILES))] for k in range(len(QUANTILES))]
)


@dataclass(frozen=True, slots=True)
class ModelShape:
    hidden: int = 128
    blocks: int = 3
    message: int = 24
    hubs: int = 4

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class GraphModel(nn.Module):
    """(N, B, features) -> deviations from the profile over scale at QUANTILES, (N, B, 12, Q), ascending in Q."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        width = LINEAR + EXTRA + 2 * STEPS_OUT
        self.enter = nn.Linear(width, shape.hidden)
        self.blocks = nn.ModuleList(_Block(shape, listens=k < shape.blocks - 1) for k in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.hidden)
        self.leave = nn.Linear(shape.hidden, STEPS_OUT * len(QUANTILES) + _BASES)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)
            self.leave.bias.zero_()

    def forward(
        self, features: torch.Tensor, bases: torch.Tensor, graphs: tuple[torch.Tensor, ...],
        offset: torch.Tensor | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """features (N, B, LINEAR + EXTRA + 24), bases (N, B, 3 + CARRIED, 12), the linear forecasts first in both;
        offset (N, B, hidden): what an adapter adds."""
        h = self.enter(features)
        if offset is not None:
            h = h + offset
        for block in self.blocks:
            h = block(h, graphs)
        out = self.leave(self.norm(h)).float()
        trust = torch.softmax(10.0 * out[..., :_BASES] + _TRUST, dim=-1)  # `leave` begins small
        raw = out[..., _BASES:].unflatten(-1, (STEPS_OUT, len(QUANTILES)))
        middle = (trust[..., None, :] @ bases).squeeze(-2) + raw[..., MIDDLE]
        gaps = F.softplus(raw - 1.0) + _LEAST_GAP
        quantiles: torch.Tensor = middle[..., None] + gaps @ _STEPS
        return quantiles


class _Block(nn.Module):
    def __init__(self, shape: ModelShape, *, listens: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(shape.hidden)
        self.listens = listens
        heard = 0
        if listens:
            self.speak = nn.Linear(shape.hidden, shape.message + 2 * shape.hubs)  # and to, and from, the hubs
            self.split = (shape.message, shape.hubs, shape.hubs)
            heard = 4 * shape.message
        self.widen = nn.Linear(shape.hidden + heard, shape.hidden)
        self.narrow = nn.Linear(shape.hidden, shape.hidden)

    def forward(self, h: torch.Tensor, graphs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        x = self.norm(h)
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.get_autocast_dtype("cpu"))  # once, not in each product
        if self.listens:
            x = torch.cat([x, self._messages(x, graphs)], dim=-1)
        out: torch.Tensor = h + self.narrow(F.silu(self.widen(x)))
        return out

    def _messages(self, x: torch.Tensor, graphs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        said, to_hub, from_hub = self.speak(x).float().split(self.split, dim=-1)  # (N, B, M), (N, B, K) twice
        nodes, windows, width = said.shape
        flat = said.reshape(nodes, windows * width)
        with torch.autocast("cpu", enabled=False):
            along = [torch.sparse.mm(graphs[g], flat).reshape(nodes, windows, width) for g in (0, 1, 3)]
            gather = torch.softmax(to_hub, dim=0)  # over places
            hubs = torch.einsum("nbk,nbm->bkm", gather, said)
            whole = torch.einsum("nbk,bkm->nbm", torch.softmax(from_hub, dim=-1), hubs)
        return torch.cat([*along, whole], dim=-1).to(x.dtype)


def deviations(
    model: GraphModel, context: CityContext, ridge: CityRidge, features: WindowFeatures,
    starts: torch.Tensor | None = None, offset: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """Run the model on the features of a city's windows. `starts`: rows of training windows, cross-fitted."""
    shared, own = ridge.predict(features.linear, starts)
    carried = features.linear[..., -12 * CARRIED :].reshape(*shared.shape[:2], CARRIED, STEPS_OUT)
    bases = torch.cat([torch.stack([shared, own, torch.zeros_like(own)], dim=2).clamp(-8.0, 8.0), carried], dim=2)
    inputs = torch.cat([features.linear.clamp(-8.0, 8.0), features.extra, bases[..., :2, :].flatten(-2)], dim=-1)
    out: torch.Tensor = model(inputs, bases, context.graphs, offset)
    return out


def pinball(quantiles: torch.Tensor, truth: torch.Tensor, known: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean pinball loss (Koenker & Bassett 1978) of (N, B, 12, Q) against (N, B, 12); weight (N,)."""
    off = truth[..., None] - quantiles
    slope = torch.tensor(QUANTILES) - (off.detach() < 0).float()  # of the loss; off times it is the loss
    loss = (off * slope).mean(dim=-1) * (known * weight[:, None, None])
    return loss.sum() / (known * weight[:, None, None]).sum().clamp(min=1.0)
