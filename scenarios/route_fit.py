"""Route flows near a prior that meet counts, some of which may be wrong.

The distance from the prior is the information of Van Zuylen & Willumsen (1980), "The most likely trip matrix
estimated from traffic counts": flows stay positive, and routes that the prior holds for likely are raised first. The
distance from a count is close to its GEH, squared while small and linear beyond (a pseudo-Huber loss, Charbonnier et
al. 1994): a loop that contradicts its neighbours then bends the routes around it little. Where it is still far off,
its weight fades (Geman & McClure 1987, by reweighting): it counts something else.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from networks.errors import ShapeError
from networks.graph import Floats

STIFFNESS = 0.1  # of the prior, per vehicle
TRUSTED_GEH = 2.0  # where the loss of a count turns linear
FAR_GEH = 20.0  # about where its weight fades: on left-out loops of one city 0.44 within GEH 5 without, 0.48 with it
FADES = 3  # times that weights are drawn from the last fit
MOST_STEPS = 400
HALF = 0.5  # vehicle, keeps the root's slope finite


def fit_flows(share: Floats, counted: Floats, carried: Floats, prior: Floats) -> Floats:
    """(R,) flows of routes.

    share    (N, R)  part of the vehicles of a route that a counter sees within the interval
    counted  (N,)    vehicles; NaN: not counted
    carried  (N,)    vehicles that the counter sees of those who departed before, and of others
    prior    (R,)    > 0, vehicles; its total is scaled to what was counted

    Raises ShapeError if they disagree or the prior is not positive.
    """
    if share.shape != (len(counted), len(prior)) or carried.shape != counted.shape:
        raise ShapeError(
            f"share {share.shape}, counted {counted.shape}, carried {carried.shape}, prior {prior.shape}"
        )
    if not (prior > 0).all():
        raise ShapeError("a prior flow is not above 0")
    known = np.isfinite(counted)
    share, counted, carried = share[known], counted[known], carried[known]
    passing = float((share @ prior).sum())
    scale = float((counted - carried).clip(0.0).sum()) / passing if passing > 0 else 1.0
    start = np.log(prior * max(scale, 1e-3))
    wanted = np.sqrt(counted + HALF)

    def apart(log_flow: Floats) -> tuple[Floats, Floats]:
        root = np.sqrt(share @ np.exp(log_flow) + carried + HALF)
        return 2.0 * (root - wanted), root  # close to GEH

    def cost(log_flow: Floats) -> tuple[float, Floats]:
        flow = np.exp(log_flow)
        off, root = apart(log_flow)
        bend = np.sqrt(1.0 + (off / TRUSTED_GEH) ** 2)
        change = log_flow - start
        value = 2.0 * TRUSTED_GEH**2 * weight @ (bend - 1.0)
        value += STIFFNESS * (flow * (change - 1.0) + np.exp(start)).sum()
        slope = share.T @ (weight * 2.0 * off / (bend * root)) + STIFFNESS * change
        return float(value), flow * slope

    log_flow, weight = start, np.ones(len(counted))
    for _ in range(1 + FADES):
        log_flow = minimize(cost, log_flow, jac=True, method="L-BFGS-B", options={"maxiter": MOST_STEPS}).x
        weight = (1.0 + (apart(log_flow)[0] / FAR_GEH) ** 2) ** -2
    flow: Floats = np.exp(log_flow)
    return flow
