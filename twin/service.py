"""The live loop as a service: real feeds come in over a broker, plans and messages for roadside units go out.

Every multiple of a cycle's length on the wall clock is a moment for which a cycle is worked out, as soon as devices
have reported of it. A cycle that takes longer makes the next ones late: those are left out and said. Whatever dies
comes back: the mirror from its snapshot, the line by itself with all that was said meanwhile; a service that was
killed begins anew, and its plans are numbered above all earlier ones.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from networks.city import CityFolder
from networks.errors import CityTwinError, InputError, ProcessError
from networks.graph import Network
from networks.messages import Frame
from networks.state import DAY_S
from signals.plan import ApprovedPlan
from twin.ahead import Ahead
from twin.app import LAMP_MEMORY, CityModel, make_forecaster, on_day, start_mirror
from twin.broadcast import Broadcast, Sending
from twin.lamp_memory import keep_reds
from twin.loop import LEAD_S, City, CycleReport, run_cycle
from twin.mqtt import WINDOW, BrokerLink, carry
from twin.numbering import own_numbering
from twin.recorder import Recorder
from twin.service_config import Telling

HEARD_AFTER_S = 0.4  # reports of a moment are waited for so long; what is planned takes over LEAD_S after the moment
LOOK_S = 0.1  # between two looks at the line: it holds only so much, and stops the broker then
FIRST_LOOK_S = 1.0  # until what the broker has kept begins to come
SET_BACK_S = 5.0  # a clock that goes back further makes all ages wrong
LAMPS_KEPT_EVERY_S = 10.0
MAP_EVERY_S, EVENTS_EVERY_S = 60.0, 10.0


@dataclass
class Tally:
    """What a service has done since it began."""

    cycles: int = 0
    skipped: int = 0
    frames: int = 0
    plans: int = 0
    refused_by_street: int = 0
    fallbacks: Counter[str] = field(default_factory=Counter)  # cycles in which a stage's fallback stood in


class Log:
    """The recorder, which the service outlives: on a full disk frames go to the inbox unrecorded, and it is said."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.lost = 0  # frames
        self.complaint = ""

    def write(self, frames: Sequence[Frame]) -> None:
        try:
            self._recorder.write(frames)
            self.complaint = ""
        except OSError as defect:
            self.lost += len(frames)
            self.complaint = f"recording: {defect.strerror or defect}; {self.lost} messages not kept"


class Teller:
    """SPAT of the plans in force every cycle, MAP and RSI now and then, for signals with a roadside unit."""

    def __init__(self, network: Network, telling: Telling, send: Callable[[Sequence[Sending]], int]) -> None:
        """Raises InputError for a signal that the network lacks, and for what no MAP can hold of one."""
        for signal in telling.units:
            if signal not in network.signal_index:
                raise InputError(f"broadcast.units: the network has no signal {signal!r}")
        units = {network.signal_index[signal]: unit for signal, unit in telling.units.items()}
        self._broadcast = Broadcast(network, own_numbering(network, telling.region), units)
        self._event, self._send = telling.closing_event, send
        self._mapped_s = self._warned_s = -math.inf
        self._before: tuple[ApprovedPlan, ...] = ()  # of the cycle before: in force by now
        self._broadcast.map(0.0)

    def tell(self, city: City, cycle: CycleReport) -> None:
        """Raises InputError for what a message cannot hold."""
        now_s = cycle.now_s
        shown = city.lamps.foresee(now_s)
        in_force = []
        for approved in self._before:
            record = shown[approved.plan.signal]
            if record is not None and record.state == approved.plan.state_at(now_s):
                in_force.append(approved)
        self._send(self._broadcast.spat(in_force, now_s, sure_until_s=now_s + LEAD_S))
        self._before = cycle.decision.approved
        if now_s - self._mapped_s >= MAP_EVERY_S:
            self._mapped_s = now_s
            self._send(self._broadcast.map(now_s))
        if self._event is not None and now_s - self._warned_s >= EVENTS_EVERY_S:
            self._warned_s = now_s
            self._send(self._broadcast.rsi(city.closures.known, now_s, event_type=self._event))


class Service:
    """One city, live. `run` goes on until it is told to stop."""

    def __init__(
        self,
        model: CityModel,
        city: City,
        link: BrokerLink,
        *,
        rebuild: Callable[[CityFolder], CityModel],
        log: Log | None = None,
        teller: Teller | None = None,
        store: Path | None = None,
        watch: Callable[[City, CycleReport], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`model`: of the day on which `city` began; `rebuild` makes that of another day.

        `store`: the folder in which a mirror's snapshots are kept. `watch` sees every cycle.
        """
        self._model, self._city, self._link, self._rebuild = model, city, link, rebuild
        self._log, self._teller, self._store, self._watch, self._clock = log, teller, store, watch, clock
        self._day_ends_s = model.folder.epoch_s + DAY_S
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="new day")
        self._coming: Future[CityModel] | None = None
        self._complaint = ""  # of what was told to roadside units
        self._kept_s = -math.inf
        self.tally = Tally()

    def run(self, stop: threading.Event, *, until_s: float = math.inf) -> Tally:
        """Cycle after cycle until `stop` is set or the clock shows `until_s`.

        Raises ProcessError when the clock is set back: whoever supervises the service has to begin it anew.
        """
        cycle_s, heard_s = self._city.pace.cycle_s, self._city.pace.heard_after_s
        stop.wait(FIRST_LOOK_S)
        while self._hear() >= WINDOW // 2:  # nothing is planned on half of what the broker has kept
            if stop.wait(LOOK_S):
                break
        gc.collect()
        gc.freeze()  # the city, its models and its tables live as long as we do: never looked through again
        now_s = math.floor(self._clock() / cycle_s) * cycle_s
        while now_s + cycle_s <= until_s:
            due_s = now_s + cycle_s
            if not self._wait(stop, now_s, due_s + heard_s):
                break
            notes: list[str] = []
            latest_s = math.floor((self._clock() - heard_s) / cycle_s) * cycle_s
            if latest_s > due_s:
                skipped = round((latest_s - due_s) / cycle_s)
                self.tally.skipped += skipped
                notes.append(f"{skipped} cycles left out: the one before took too long, or the clock was set")
            now_s = max(due_s, latest_s)
            self._cycle(now_s, notes)
        self._beside.shutdown(wait=False, cancel_futures=True)
        return self.tally

    def _cycle(self, now_s: float, notes: list[str]) -> None:
        city, tally = self._city, self.tally
        if now_s >= self._day_ends_s:
            notes.append(self._begin_day(now_s))
        notes += self._take_day()
        self._hear()
        if self._log is not None and self._log.complaint:
            notes.append(self._log.complaint)
        if not self._link.connected:
            notes.append(f"no line to the broker{': ' + self._link.refusal if self._link.refusal else ''}")
        if self._complaint:
            notes.append(self._complaint)
        notes += city.tend()
        report = run_cycle(city, now_s, notes)
        tally.cycles += 1
        tally.plans += 0 if city.shadow else len(report.decision.approved)
        tally.refused_by_street += sum(not receipt.accepted for receipt in report.receipts)
        tally.fallbacks.update(outcome.stage for outcome in report.failures)
        if self._teller is not None and not city.shadow:
            try:
                self._teller.tell(city, report)
                self._complaint = ""
            except CityTwinError as defect:
                self._complaint = f"roadside units not told: {defect}"
        self._keep_lamps(now_s)
        if self._watch is not None:
            self._watch(city, report)

    def _wait(self, stop: threading.Event, last_s: float, until_s: float) -> bool:
        """Take what comes in until a time; False: told to stop."""
        while (left_s := until_s - self._clock()) > 0.0:
            if stop.wait(min(LOOK_S, left_s)):
                return False
            if self._clock() < last_s - SET_BACK_S:
                raise ProcessError(f"the clock was set back by {last_s - self._clock():.0f} s")
            self._hear()
        return True

    def _hear(self) -> int:
        count = carry(self._link, self._city.inbox, self._log, self._clock())
        self.tally.frames += count
        return count

    def _keep_lamps(self, now_s: float) -> None:
        """For the next life. A disk that is full is told of by the store, which writes every cycle."""
        if self._store is None or now_s - self._kept_s < LAMPS_KEPT_EVERY_S:
            return
        self._kept_s = now_s
        with suppress(OSError):
            keep_reds(self._store / LAMP_MEMORY, self._model.network, self._city.lamps.records, now_s)

    def _begin_day(self, now_s: float) -> str:
        """The demand begins anew, and with it mirror and outlook; forecasters follow when they are fit."""
        city, folder = self._city, on_day(self._model.folder, now_s)
        today = replace(self._model, folder=folder)
        self._day_ends_s = folder.epoch_s + DAY_S
        self._coming = self._beside.submit(self._rebuild, folder)
        if city.mirror is not None:
            city.mirror.close()
            city.mirror = start_mirror(today, now_s, self._store)
        if city.ahead is not None:
            city.ahead = Ahead(folder, today.network, today.prior)
        return "the demand's day has begun: a new mirror"

    def _take_day(self) -> list[str]:
        """Forecast with the model of the new day, once it is made."""
        if self._coming is None or not self._coming.done():
            return []
        coming, self._coming = self._coming, None
        if (defect := coming.exception()) is not None:
            return [f"forecasters stay those of the day before: {defect}"]
        self._model = coming.result()
        self._city.forecaster = make_forecaster(self._model)
        return ["forecasters of the new day"]
