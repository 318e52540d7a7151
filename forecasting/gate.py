"""Who may forecast: a candidate against profile and ridge on held-out days; and feeds that no one should believe.

The fallback is declared: model, ridge, profile, persistence. A city's own held-out windows, those between its
training part and the first forecast, decide where it begins; a feed that is silent or stuck lets it step down.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecasting.series import Float32s
from networks.state import QUANTILES

CHAIN = ("model", "ridge", "profile", "last value")
_MIDDLE = QUANTILES.index(0.5)
_LEAST_GAIN = 1.0  # times the error of profile and ridge
_BANDS = ((0.8, 0.75, 0.85), (0.9, 0.87, 0.93))  # nominal, least, most
_BLOCKS = 12  # stretches of the held-out windows, taken to err apart
_STALE_STEPS = 6
_STALE_SHARE = 0.02  # of the places reported in the last steps: less is a silent feed
_STUCK_SHARE = 0.8  # of the reporting places repeat one value over the whole window: a stuck feed
_BROKEN_SHARE = 0.2  # of the readings are beyond any deviation seen: a poisoned feed


@dataclass(frozen=True, slots=True)
class Verdict:
    """Mean absolute errors on held-out windows and why a candidate may not go live; no reasons: it may."""

    mae: dict[str, float]
    coverage: dict[str, float]
    windows: int
    reasons: tuple[str, ...]

    @property
    def passes(self) -> bool:
        return not self.reasons

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"passes": self.passes}


def judge(candidate: Float32s, rivals: dict[str, Float32s], truth: Float32s) -> Verdict:
    """Quantiles (S, 12, N, Q) of a candidate and of its rivals against (S, 12, N), NaN unknown."""
    known = np.isfinite(truth)
    if not known.any():
        return Verdict({}, {}, 0, ("no held-out window has a reading to judge by",))
    if not np.isfinite(candidate).all():
        return Verdict({}, {}, len(truth), ("the model's forecasts are not all finite",))
    seen = truth[known]
    mae = {name: float(np.abs(q[..., _MIDDLE][known] - seen).mean()) for name, q in rivals.items()}
    own = float(np.abs(candidate[..., _MIDDLE][known] - seen).mean())
    reasons = [
        f"its error {own:.4g} is not below that of the {name}, {error:.4g}"
        for name, error in mae.items()
        if own >= _LEAST_GAIN * error
    ]
    coverage = {}
    for nominal, least, most in _BANDS:
        low, high = (
            int(np.argmin(np.abs(np.array(QUANTILES) - level))) for level in ((1 - nominal) / 2, (1 + nominal) / 2)
        )
        held = (truth >= candidate[..., low]) & (truth <= candidate[..., high])
        inside = float(held[known].mean())
        coverage[f"{nominal:g}"] = inside
        chance = _chance(held, known)
        if not least - chance <= inside <= most + chance:
            reasons.append(f"its {nominal:.0%} band holds {inside:.1%}, not {least:.0%} to {most:.0%}")
    return Verdict({"model": own, **mae}, coverage, len(truth), tuple(reasons))


def _chance(held: NDArray[np.bool_], known: NDArray[np.bool_]) -> float:
    """Standard error of the share held (S, 12, N): places and neighbouring windows err together, stretches do not."""
    blocks = np.array_split(np.arange(len(held)), min(_BLOCKS, len(held)))
    shares = [float(held[b][known[b]].mean()) for b in blocks if known[b].any()]
    return float(np.std(shares, ddof=1) / np.sqrt(len(shares))) if len(shares) > 2 else 0.0


def feed_defect(deviation: Float32s, known: np.ndarray, values: Float32s) -> str:
    """What is wrong with the inputs of one window (12, N), "" if nothing: "stale", "stuck" or "implausible".

    `deviation` is over the places' scale, limited at 12 by the caller.
    """
    if not known[-_STALE_STEPS:].any() or known[-_STALE_STEPS:].any(axis=0).mean() < _STALE_SHARE:
        return "stale"
    if (np.abs(deviation[known]) >= 11.9).mean() > _BROKEN_SHARE:
        return "implausible"
    whole = known.all(axis=0) & (np.where(known, values, 0.0).max(axis=0) > 0)
    if whole.sum() >= 3:
        constant = np.ptp(np.where(known, values, 0.0)[:, whole], axis=0) == 0
        moved = np.ptp(deviation[:, whole], axis=0) > 0.2  # the profile says that time went on
        if (constant & moved).mean() > _STUCK_SHARE:
            return "stuck"
    return ""
