"""The virtual city: a SUMO run in its own process that stands for the real world.

The handle lives in the loop's process. The twin may know nothing of the street except what its frames say, and may
touch nothing except its signal controllers and the advice that equipped vehicles receive.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from networks.city import CityFolder
from networks.errors import ProcessError
from scenarios.demand import perturb_demand
from scenarios.measures import TripSummary
from scenarios.simulation import receive, start_child
from scenarios.street import live
from scenarios.street_terms import Command, Faults, SensorNoise, StreetOptions, StreetReport, Truth

__all__ = ["Faults", "SensorNoise", "StreetOptions", "StreetReport", "Truth", "VirtualCity"]

START_TIMEOUT_S = 300.0
FINISH_TIMEOUT_S = 120.0


class VirtualCity:
    """Handle of a street that runs elsewhere. A context manager; `close` also removes its temporary files.

    One advance is under way at a time: posting the next while a report is due first waits for that report.
    """

    def __init__(self, city: CityFolder, options: StreetOptions) -> None:
        self.city, self.options = city, options
        self._folder = tempfile.TemporaryDirectory(prefix="citytwin_street_")
        self._demand: tuple[Path, ...] = ()
        self._process: Any = None
        self._connection: Any = None
        self._due = False  # an advance is under way
        self._reports: deque[StreetReport] = deque()
        self._life = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        return self._process is not None and bool(self._process.is_alive())

    @property
    def process_id(self) -> int | None:
        """Of the street's process, for a supervisor."""
        return None if self._process is None else int(self._process.pid)

    def start(self) -> None:
        """Draw the day's demand and bring the street to its first second. Raises CityError or ProcessError."""
        self._demand = perturb_demand(
            self.city,
            seed=self.options.seed,
            spread=self.options.demand_spread,
            out_folder=Path(self._folder.name),
        )
        self._spawn(self.city.epoch_s)

    def advance(self, until_s: float, orders: Sequence[bytes] = ()) -> None:
        """Post orders (`messages.pack_order`) and let the street run to `until_s`; returns at once.

        Raises ProcessError when the street is gone.
        """
        if self._due:
            self._reports.append(self._await(START_TIMEOUT_S))
        self._post(Command("advance", until_s, tuple(orders)))
        self._due = True

    def collect(self, timeout_s: float) -> StreetReport:
        """The report of the advance under way. Raises ProcessError when the street died or takes longer."""
        if self._reports:
            return self._reports.popleft()
        if not self._due:
            raise ProcessError("virtual city: nothing was asked of it")
        return self._await(timeout_s)

    def kill(self) -> None:
        """End the street's process at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._due = False
        self._reports.clear()

    def restart(self, at_s: float) -> None:
        """Bring the street back from its last snapshot, fast-forwarded to `at_s` on its own fixed plans.

        Nothing of the time between snapshot and `at_s` is reported to the twin. Vehicles are counted once in the end:
        those that had arrived by the snapshot from a tally kept with it, all others by the new run.
        """
        self.kill()
        self._life += 1
        self._spawn(at_s)

    def finish(self) -> TripSummary:
        """End the run and say how every vehicle fared."""
        if self._due:
            self._reports.append(self._await(START_TIMEOUT_S))
        self._post(Command("finish"))
        summary = receive(self._connection, self._process, FINISH_TIMEOUT_S, "virtual city")
        self._process.join(FINISH_TIMEOUT_S)
        if not isinstance(summary, TripSummary):
            raise ProcessError("virtual city: answered out of turn")
        return summary

    def close(self) -> None:
        """End whatever runs and remove temporary files."""
        self.kill()
        with suppress(OSError):
            self._folder.cleanup()

    def _spawn(self, at_s: float) -> None:
        self._process, self._connection = start_child(
            live,
            self.city,
            self.options,
            self._demand,
            Path(self._folder.name),
            self._life,
            at_s,
            name="virtual city",
        )
        receive(self._connection, self._process, START_TIMEOUT_S, "virtual city")

    def _post(self, command: Command) -> None:
        if self._process is None:
            raise ProcessError("virtual city: not started")
        try:
            self._connection.send(command)
        except (OSError, ValueError):
            self._due = False
            raise ProcessError(f"virtual city: the process died (exit code {self._process.exitcode})") from None

    def _await(self, timeout_s: float) -> StreetReport:
        try:
            report = receive(self._connection, self._process, timeout_s, "virtual city")
        except ProcessError:
            self._due = self.alive
            raise
        self._due = False
        if not isinstance(report, StreetReport):
            raise ProcessError("virtual city: answered out of turn")
        return report
