"""What each producer of the loop counts for, and who leads: by errors on what the street really did, horizon by
horizon, and before any by what the past says."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forecasting.live_city import FLOW, QUANTITIES, SPEED
from forecasting.producers import DEVIATION, PERSISTENCE, RIDGE, Producers
from forecasting.series import STEPS_OUT
from networks.graph import Floats

_MEMORY = 0.95  # of the errors that decide, per update, one a history step: about 20 minutes
_SHARPNESS = 10.0  # a share falls with this power of the error: a tenth more error, 0.39 times the share
_SHARED = 0.8  # of the evidence of the next shorter horizon
_GATE_WEIGHT = 1.0  # updates that the gate counts for: days of a simulator are little evidence
_UNPROVEN = 1.05  # times the profile's error is assumed of its deviation, until it was seen
_WORST = 2.0  # times the least error: nobody counts as worse than that in one update
_CLEARLY = 0.97  # times the error of the others: so good must a model be that the gate refused
_READMIT_WEIGHT = 16.0  # evidence, 15 updates of the street, before a model that the gate refused may count after all
_BACK, _LEAVES = 0.97, 0.96  # a richer producer leads until another's error is this share of its own, and then again
_CLEARLY_MORE = 1.5  # times the share of who counted most, from which on it is told


class Shares:
    """Shares of the producers in what is served: (2, P, H), for flow and speed, each producer and horizon."""

    def __init__(self, producers: Producers) -> None:
        self._producers = producers
        self._error = np.zeros((2, len(producers.names), STEPS_OUT))  # fading sums, over the least of the chain
        self._weight = np.zeros((2, STEPS_OUT))
        self._gate_error = self._errors_at_the_gate()  # (2, P)
        self._in_front = np.zeros((2, STEPS_OUT), np.int64)
        shares = self.now()
        self.settle(shares)
        self._told_most = shares.mean(axis=2).argmax(axis=1)

    def learn(self, quantity: int, horizon: int, wrong: Floats, weight: Floats) -> None:
        """Errors (P, N) of all producers at the same edges, each edge by its weight (N,)."""
        mean = np.maximum(np.average(wrong, axis=1, weights=weight), 1e-9)
        least = mean[self._producers.chain].min()
        limited = np.minimum(mean / least, _WORST)  # a bad spell ends soon after it is over
        self._error[quantity, :, horizon] = _MEMORY * self._error[quantity, :, horizon] + limited
        self._weight[quantity, horizon] = _MEMORY * self._weight[quantity, horizon] + 1.0

    def now(self) -> Floats:
        """What each producer counts for per quantity and horizon, by its errors of late. A candidate counts for
        nothing; nor does a model that the gate refused, until much evidence says that it is clearly better."""
        errors, weights = self._error.copy(), self._weight.copy()
        for horizon in range(1, STEPS_OUT):  # truths of shorter horizons come earlier, and speak for the longer ones
            errors[..., horizon] += _SHARED * errors[..., horizon - 1]
            weights[..., horizon] += _SHARED * weights[..., horizon - 1]
        weights += _GATE_WEIGHT
        mean = (errors + _GATE_WEIGHT * self._errors_before_truths()) / weights[:, None]
        shares = np.zeros(mean.shape)
        models, chain = self._producers.models, self._producers.chain
        for quantity in (FLOW, SPEED):
            for k in chain:
                counts = np.ones(STEPS_OUT, np.bool_)
                if k < len(models) and not models[k].admitted(QUANTITIES[quantity]):
                    others = mean[quantity, [j for j in chain if j != k]].min(axis=0)
                    counts = (weights[quantity] >= _READMIT_WEIGHT) & (mean[quantity, k] < _CLEARLY * others)
                shares[quantity, k] = counts * mean[quantity, k] ** -_SHARPNESS
        answer: Floats = shares / shares.sum(axis=1, keepdims=True)
        return answer

    def lead(self, shares: Floats) -> NDArray[np.int64]:
        """Producer in front per quantity and horizon (2, H): the first of the chain that no other has clearly beaten
        of late; the one in front keeps its place in between."""
        lead = np.zeros((2, STEPS_OUT), np.int64)
        most = shares.max(axis=1)
        for k in reversed(self._producers.chain):
            gain = np.where(k < self._in_front, _BACK, _LEAVES)
            lead[shares[:, k] >= gain**_SHARPNESS * most] = k
        return lead

    def settle(self, shares: Floats) -> NDArray[np.int64]:
        """Who leads with these shares, and is in front from now on."""
        self._in_front = self.lead(shares)
        return self._in_front

    def take_news(self, shares: Floats) -> list[str]:
        """Who counts most, over all horizons, when somebody else clearly does."""
        news, names = [], self._producers.names
        for quantity, name in enumerate(QUANTITIES):
            share, before = shares[quantity].mean(axis=1), int(self._told_most[quantity])
            most = int(share.argmax())
            if share[most] >= _CLEARLY_MORE * share[before]:
                news.append(
                    f"forecast of {name}: {names[most]} counts most now, {share[most]:.0%} beside "
                    f"{share[before]:.0%} of {names[before]}"
                )
                self._told_most[quantity] = most
        return news

    def _errors_before_truths(self) -> Floats:
        """What is expected of each producer (2, P, H), over the least, before the street has told anything.

        Held-out past days say who is better on a day like them, and count alike where they judged nobody. All that
        trusts the profile errs the more the odder the day is; what carries deviations on does not.
        """
        errors = np.ones(self._error.shape)
        oddness = self._producers.oddness
        for quantity, past in enumerate(oddness.past):
            odd = oddness.day[quantity]
            errors[quantity] = self._gate_error[quantity, :, None] * odd
            errors[quantity, DEVIATION] = _UNPROVEN
            errors[quantity, PERSISTENCE] = past.persistence
        least = np.maximum(errors.min(axis=1, keepdims=True), 1e-9)
        answer: Floats = np.minimum(errors / least, _WORST)
        return answer

    def _errors_at_the_gate(self) -> Floats:
        """Errors on held-out past days over that of the profile (2, P); 1 where nobody was judged."""
        errors = np.ones((2, len(self._producers.names)))
        for k, model in enumerate(self._producers.models):
            for quantity, name in enumerate(QUANTITIES):
                if (verdict := model.verdicts.get(name)) and verdict.mae:
                    errors[quantity, k] = verdict.mae["model"] / verdict.mae["profile"]
                    errors[quantity, RIDGE] = verdict.mae["ridge"] / verdict.mae["profile"]
        return errors
