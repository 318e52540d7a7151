"""What a window shows of every place: the numbers that the ridge and the network read, all without a unit."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from forecasting.city_context import GRAPHS, STATISTICS, STRUCTURE, CityContext, calendar
from forecasting.series import STEPS_IN, STEPS_OUT

_IN, _OUT = torch.arange(STEPS_IN), STEPS_IN + torch.arange(STEPS_OUT)
_BLOCKS = 1 + 2 + len(GRAPHS) + 1 + 3 + 4  # own lags, profile past and ahead, graphs, whole city, drift, carried on
CARRIED = 4  # the last blocks: what simple rules would forecast
LINEAR = 12 * _BLOCKS
PAST, AHEAD = slice(12, 24), slice(24, 36)  # the profile among the linear features
ALIKE, CITY = slice(72, 84), slice(84, 96)  # deviations of places alike, of the whole city
DRIFT = slice(96, 132)
OWN = 12 + 4 + 3 + 12  # of the linear ones that a place's own correction reads
_PARTS_AHEAD = 4  # means of three steps ahead each
EXTRA = STEPS_IN + 3 + len(GRAPHS) + 1 + STATISTICS + 12 + 5 + 3 + 3 * _PARTS_AHEAD + STRUCTURE
_RATIO_WEIGHT = 2.0  # usual readings that speak for a usual day


@dataclass(frozen=True, slots=True)
class WindowFeatures:
    """Axes (N, B, F): places first, so that a graph is one sparse product."""

    linear: torch.Tensor  # (N, B, LINEAR)
    extra: torch.Tensor  # (N, B, EXTRA) masks, statistics, calendar: read by the network alone
    target: torch.Tensor  # (N, B, 12) deviation from the profile over scale
    target_known: torch.Tensor  # (N, B, 12) bool


def window_features(
    context: CityContext,
    starts: torch.Tensor,
    *,
    hidden: torch.Tensor | None = None,
    inputs: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> WindowFeatures:
    """Features of the windows that begin at grid rows `starts` (B,).

    hidden  (B, 12, N) bool   inputs to take away, as if they had not been reported
    inputs  deviations over scale and their mask, (B, 12, N) each, in place of the context's own rows
    """
    rows_in, rows_out = starts[:, None] + _IN, starts[:, None] + _OUT
    rows_out = rows_out.clamp(max=len(context.usual) - 1)
    value, known = inputs if inputs is not None else (context.deviation[rows_in], context.known[rows_in])
    if hidden is not None:
        known = known & ~hidden
    known = known.permute(2, 0, 1).float()  # (N, B, 12)
    value = value.permute(2, 0, 1) * known
    nodes, windows, _ = value.shape
    pair = torch.cat([value, known], dim=-1).reshape(nodes, -1)
    around = []
    seen = []
    for graph in context.graphs:
        mixed = torch.sparse.mm(graph, pair).reshape(nodes, windows, 2, STEPS_IN)
        around.append(mixed[:, :, 0] / (mixed[:, :, 1] + 1e-2))
        seen.append(mixed[:, :, 1].mean(dim=-1, keepdim=True))
    city_known = known.sum(dim=0, keepdim=True)
    city = (value.sum(dim=0, keepdim=True) / (city_known + 1e-2)).expand(nodes, -1, -1)
    filled = _filled(value, known, around[-1], city)
    whole = torch.cat([context.usual[rows_in], context.usual[rows_out]], dim=1)
    usual = ((whole - context.mean) / context.spread).permute(2, 0, 1)
    past, ahead = usual[..., :STEPS_IN], usual[..., STEPS_IN:]
    drift = context.drift[:, rows_out].permute(0, 3, 1, 2)
    drift_known = context.drift_known[:, rows_out].permute(0, 3, 1, 2).float().mean(dim=-1).permute(1, 2, 0)
    carried, likeness = _carried_on(context, rows_in, rows_out, value, known, filled)
    linear = torch.cat([filled, past, ahead, *around, city, *drift, *carried], dim=-1)
    extra = torch.cat(
        [
            known,
            *seen,
            (city_known.mean(dim=-1, keepdim=True) / nodes).expand(nodes, -1, -1),
            drift_known,
            context.statistics[:, None].expand(-1, windows, -1),
            calendar(context, starts)[None].expand(nodes, -1, -1),
            _setting(context).expand(nodes, windows, -1),
            context.support[rows_out[:, STEPS_OUT // 2]][None].expand(nodes, -1, -1),
            likeness,
            *_ways_ahead(context, rows_out),
            context.structure[:, None].expand(-1, windows, -1),
        ],
        dim=-1,
    )
    target_known = context.known[rows_out].permute(2, 0, 1)
    return WindowFeatures(linear, extra, context.deviation[rows_out].permute(2, 0, 1), target_known)


def _ways_ahead(context: CityContext, rows_out: torch.Tensor) -> list[torch.Tensor]:
    """Unrest, and how far below and above the profile the place reaches, over scale (N, B, _PARTS_AHEAD) each."""
    reach = (context.reach[:, None, None] - context.usual[rows_out]) / context.scale
    ways = [context.unrest[rows_out], *reach.clamp(-8.0, 8.0)]
    return [way.permute(2, 0, 1).unflatten(-1, (_PARTS_AHEAD, -1)).mean(dim=-1) for way in ways]


def own_features(linear: torch.Tensor) -> torch.Tensor:
    """The part (..., OWN) that a place's own correction reads: its lags, the latest of others, drift, profile."""
    latest = torch.cat([linear[..., ALIKE][..., -2:], linear[..., CITY][..., -2:]], dim=-1)
    mean_drift = linear[..., DRIFT].reshape(*linear.shape[:-1], 3, 12).mean(dim=-1)
    return torch.cat([linear[..., :12], latest, mean_drift, linear[..., AHEAD]], dim=-1)


def _filled(value: torch.Tensor, known: torch.Tensor, alike: torch.Tensor, city: torch.Tensor) -> torch.Tensor:
    """Missing lags take the window's mean deviation of the place, a silent place that of places alike."""
    count = known.sum(dim=-1, keepdim=True)
    own = value.sum(dim=-1, keepdim=True) / count.clamp(min=1.0)
    other = torch.where(alike != 0, alike, city)
    return torch.where(known > 0, value, torch.where(count > 0, own, other))


def _carried_on(
    context: CityContext, rows_in: torch.Tensor, rows_out: torch.Tensor, value: torch.Tensor, known: torch.Tensor,
    filled: torch.Tensor,
) -> tuple[list[torch.Tensor], torch.Tensor]:  # fmt: skip
    """What simple rules would forecast, as deviations over scale (N, B, 12) each: the last value goes on; the place,
    and the city, stay at their share of the usual; the day goes on like one of the other type, as far as it is like
    one. And how much it is (N, B, 1)."""
    scale = context.scale[:, None, None]
    past = context.usual[rows_in].permute(2, 0, 1) / scale
    ahead = context.usual[rows_out].permute(2, 0, 1) / scale
    last = past[..., -1:] + filled[..., -1:] - ahead
    off, usual = (value * known).sum(dim=-1, keepdim=True), (past * known).sum(dim=-1, keepdim=True)
    typical = context.mean[:, None, None].abs() / scale
    own_share = (off / (usual.abs() + _RATIO_WEIGHT * typical + 1e-3)).clamp(-1.0, 2.0)
    city_off, city_usual = (off * scale).sum(dim=0, keepdim=True), (usual * scale).sum(dim=0, keepdim=True)
    whole = _RATIO_WEIGHT * context.mean.abs().sum()
    city_share = (city_off / (city_usual.abs() + whole + 1e-6)).clamp(-1.0, 2.0)
    other_past = context.contrast[rows_in].permute(2, 0, 1) * known
    along = (other_past * value).clamp(-16.0, 16.0).sum(dim=(0, 2), keepdim=True)
    like = (along / ((other_past**2).sum(dim=(0, 2), keepdim=True) + 10.0)).clamp(-0.5, 1.5)
    other_ahead = context.contrast[rows_out].permute(2, 0, 1)
    rules = [last, own_share * ahead, city_share * ahead, like * other_ahead]
    return [rule.clamp(-8.0, 8.0) for rule in rules], like.expand(len(value), -1, -1)


def _setting(context: CityContext) -> torch.Tensor:
    hour = torch.tensor(float(context.step_s) / 3600.0)
    return torch.stack(
        [
            torch.log(hour) / 2.0,
            torch.tensor(float(context.quantity == "speed")),
            torch.tensor(context.reliability),
            torch.log1p(torch.tensor(context.history_days)) / 4.0,
            torch.tensor(min(context.nodes, 500) / 500.0),
        ]
    )
