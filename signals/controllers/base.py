"""What every signal controller offers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from networks.state import Forecast, NetworkState
from signals.lamps import LampRecord
from signals.plan import Proposal


class Controller(Protocol):
    """Proposes plans for the junctions it can; a junction it leaves out keeps its fallback."""

    name: str

    def propose(
        self,
        state: NetworkState,
        forecast: Forecast | None,
        lamps: Sequence[LampRecord | None],
        *,
        valid_from_s: float,
    ) -> Sequence[Proposal]:
        """Plans that take over at `valid_from_s`, starting from `lamps`: what each signal will show just then.

        `lamps[i] is None`: signal i is not heard of, or is inside an intergreen of its own programme; no plan for it.
        """
        ...
