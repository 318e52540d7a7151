"""One seed of the live loop against a virtual city, both supervised."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from networks.errors import ProcessError
from scenarios.measures import TripSummary
from scenarios.street_terms import StreetOptions, StreetReport
from scenarios.virtual_city import VirtualCity
from twin.app import CityModel, build_city
from twin.forecast_table import forecast_document
from twin.loop import City, CycleReport, Pace, run_cycle
from twin.privacy import Pseudonyms
from twin.recorder import Recorder
from twin.score import TwinError, TwinScore

STREET_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class LiveResult:
    """What a run of the loop was worth."""

    summary: TripSummary
    error: TwinError
    cycle_ms: tuple[float, ...]
    failures: dict[str, int]  # stage -> cycles in which its fallback stood in
    notes: tuple[str, ...]  # processes restarted
    plans: int
    refused_by_safety: int
    refused_by_street: int
    quarantined: dict[str, int]  # "feed: reason" -> rows
    frames: dict[str, int]  # feed -> accepted frames
    forecast: dict[str, Any]  # see `forecast_table`


Watcher = Callable[[City, CycleReport, VirtualCity], None]


def run_live(
    model: CityModel,
    options: StreetOptions,
    pace: Pace,
    *,
    store: Path | None = None,
    speed: float = 0.0,
    watch: Watcher | None = None,
    mirrored: bool = True,
    guided: bool = True,
    record: Path | None = None,
) -> LiveResult:
    """Run one virtual city under the loop to its end. `speed`: times real time, 0: as fast as it goes.

    `watch` sees every cycle's report; it may kill processes, to see that the loop survives. `record`: folder for a
    log of all frames, pseudonymised, for `citytwin replay`.
    """
    pseudonyms = Pseudonyms(f"virtual city {options.seed}".encode())  # of nobody real: a run can be repeated exactly
    city = build_city(model, pace=pace, store=store, mirrored=mirrored, guided=guided, pseudonyms=pseudonyms)
    try:
        with ExitStack() as stack:
            street = stack.enter_context(VirtualCity(model.folder, options))
            log: Recorder | None = None
            if record is not None:
                log = stack.enter_context(
                    Recorder(
                        record,
                        city=str(model.folder.folder),
                        network=model.network.fingerprint,
                        pseudonyms=pseudonyms,
                    )
                )
            return _Run(model, city, street, options, pace, speed, watch, log).go()
    finally:
        city.close()


class _Run:
    def __init__(
        self,
        model: CityModel,
        city: City,
        street: VirtualCity,
        options: StreetOptions,
        pace: Pace,
        speed: float,
        watch: Watcher | None,
        log: Recorder | None,
    ) -> None:
        self._city, self._street, self._watch, self._log = city, street, watch, log
        self._pace, self._speed = pace, speed
        self._begin_s = model.folder.epoch_s
        self._end_s = self._begin_s + options.duration_s
        self._score = TwinScore(model.network)
        self._cycle_ms: list[float] = []
        self._failures: Counter[str] = Counter()
        self._notes: list[str] = []
        self._forecast_notes: list[str] = []
        self._plans = self._unsafe = self._refused = 0

    def go(self) -> LiveResult:
        now_s, begun = self._begin_s, time.monotonic()
        while now_s < self._end_s - 1e-6:
            now_s = min(now_s + self._pace.cycle_s, self._end_s)
            notes: list[str] = []
            report = self._advance(now_s, notes)
            frames = report.frames if report is not None else ()
            if self._log is not None:
                self._log.write(frames)
            for frame in frames:
                self._city.inbox.offer(frame, now_s)
            notes += self._city.tend()
            cycle = run_cycle(self._city, now_s, notes)
            self._note(cycle, report)
            if self._watch is not None:
                self._watch(self._city, cycle, self._street)
            if self._speed > 0:
                time.sleep(max(0.0, begun + (now_s - self._begin_s) / self._speed - time.monotonic()))
        return self._result(self._finish())

    def _advance(self, until_s: float, notes: list[str]) -> StreetReport | None:
        """Let the street run on; bring it back when it died, as a street that has heard nothing meanwhile."""
        try:
            self._street.advance(until_s, self._city.publisher.take())
            return self._street.collect(STREET_TIMEOUT_S)
        except ProcessError as death:
            notes.append(f"virtual city restarted: {death}")
            self._street.restart(until_s)
            return None

    def _finish(self) -> TripSummary:
        try:
            return self._street.finish()
        except ProcessError as death:
            self._notes.append(f"virtual city restarted: {death}")
            self._street.restart(self._end_s)
            return self._street.finish()

    def _note(self, cycle: CycleReport, report: StreetReport | None) -> None:
        self._cycle_ms.append(cycle.ms)
        self._failures.update(o.stage for o in cycle.failures)
        self._notes += cycle.notes
        at_s = round(cycle.now_s - self._begin_s)
        self._forecast_notes += [f"{at_s} s: {note}" for note in cycle.forecast_notes]
        self._plans += len(cycle.decision.approved)
        self._unsafe += len(cycle.decision.refused)
        self._refused += sum(not r.accepted for r in cycle.receipts)
        self._score.note(report.truth if report is not None else None, cycle.state)

    def _result(self, summary: TripSummary) -> LiveResult:
        inbox = self._city.inbox
        self._city.settle()
        return LiveResult(
            summary=summary,
            error=self._score.result(),
            cycle_ms=tuple(self._cycle_ms),
            failures=dict(self._failures),
            notes=tuple(self._notes),
            plans=self._plans,
            refused_by_safety=self._unsafe,
            refused_by_street=self._refused,
            quarantined={
                f"{feed}: {reason}": count for (feed, reason), count in inbox.quarantine.count_reasons().items()
            },
            frames={feed: tally.frames_accepted for feed, tally in inbox.tallies.items()},
            forecast={**forecast_document(self._city.forecaster), "notes": self._forecast_notes},
        )
