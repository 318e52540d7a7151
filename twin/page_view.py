"""Each cycle of a live run onto the board: what `run_live` calls as its watcher."""

from __future__ import annotations

from collections import deque

from scenarios.virtual_city import VirtualCity
from twin.board import Board, DecisionView, Snapshot, view_feeds, view_state
from twin.loop import City, CycleReport

_KEPT = 40  # decisions on the page
_ADVICE_S = 60.0


class PageView:
    """Turns cycle reports into snapshots. Plans are renewed every cycle; only what changes at a signal is listed."""

    def __init__(self, board: Board, *, progress: str = "") -> None:
        self._board = board
        self.progress = progress
        self._decisions: deque[DecisionView] = deque(maxlen=_KEPT)
        self._last_target: dict[str, str] = {}  # stage that the plan listed last leads to
        self._advice: deque[tuple[float, int]] = deque()  # (time, routes)

    def __call__(self, city: City, cycle: CycleReport, street: VirtualCity | None, *, draw: bool = True) -> None:
        """Take note of a cycle; `draw` False: without showing it yet, when cycles come faster than eyes follow."""
        self._note_decisions(cycle)
        self._note_advice(cycle)
        if not draw:
            return
        snapshot: Snapshot = {
            "cycle": cycle.cycle,
            "now_s": cycle.now_s,
            "cycle_ms": round(cycle.ms, 1),
            "deadline_ms": city.pace.cycle_s * 1000.0,
            "feeds": view_feeds(city.inbox.health(cycle.now_s)),
            "stages": [{"name": o.stage, "ms": round(o.ms, 1), "fallback": o.fallback} for o in cycle.outcomes],
            "decisions": list(self._decisions),
            "mirror": "off" if city.mirror is None else "alive" if city.mirror.alive else "down",
            "street": "off" if street is None else "alive" if street.alive else "down",
            "forecast": list(cycle.forecast.producer) if cycle.forecast is not None else [],
            "advised": sum(given for _, given in self._advice),
            "progress": self.progress,
        }
        if cycle.state is not None:
            snapshot = {**view_state(city.network, cycle.state), **snapshot}
        self._board.update(snapshot)

    def _note_advice(self, cycle: CycleReport) -> None:
        if cycle.guidance_given:
            self._advice.append((cycle.now_s, cycle.guidance_given))
        while self._advice and self._advice[0][0] <= cycle.now_s - _ADVICE_S:
            self._advice.popleft()

    def _note_decisions(self, cycle: CycleReport) -> None:
        for approved in cycle.decision.approved:
            plan = approved.plan
            target = plan.steps[-1].state
            changes = plan.steps[0].state != target
            if self._last_target.get(plan.signal_id) == target or not changes:
                continue
            self._last_target[plan.signal_id] = target
            self._decisions.appendleft(
                {
                    "at_s": cycle.now_s,
                    "junction": plan.signal_id,
                    "version": approved.version,
                    "source": plan.source,
                    "reason": plan.reason,
                }
            )
