"""The mirror: a running simulation kept close to the street, in a process of its own.

The loop's side is a handle that never waits: `assimilate` leaves the observation with a background thread, which
hands it to the process when that is ready for one. A slow mirror falls behind by a bounded number of observations,
a dead one is seen at once and restarted from its last snapshot, with the observations since then played again.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from networks.batches import ControlNotice
from networks.city import CityFolder, Detector
from networks.errors import CityTwinError
from networks.graph import Network
from networks.sensors import find_detectors
from networks.state import NetworkState
from scenarios.simulation import receive, start_child
from twin.mirror_kept import keep
from twin.mirror_process import MirrorSpec, serve
from twin.mirror_words import Change, MirrorEstimate, Observation, Snapshot, Watched, observe, reported

WAITING = 64  # observations left with a slow mirror before the oldest are dropped
KEPT_FOR_RESTART = 240  # observations since the last snapshot
FRUITLESS_BEFORE_ANEW = 2
DEFAULT_SEED = 4711

__all__ = ["Change", "Mirror", "MirrorEstimate"]


class Mirror:
    """Handle of the mirror's process. Safe to use from one thread; nothing here blocks on the simulation."""

    def __init__(
        self,
        city: CityFolder,
        network: Network,
        *,
        detectors: Sequence[Detector] | None = None,
        seed: int = DEFAULT_SEED,
        correct: bool = True,
        kept: Path | None = None,
    ) -> None:
        """`detectors` None: those that the city's coverage implies. `correct` False: lamps are followed, no more.

        `kept`: a folder in which the newest snapshot is kept for `citytwin branch`.
        """
        if detectors is None:
            detectors = find_detectors(network, city.coverage)
        self._watched = Watched.by(network, detectors)
        self._city, self._network, self._seed, self._correct, self._kept = city, network, seed, correct, kept
        self._folder = tempfile.TemporaryDirectory(prefix="citytwin_mirror_")
        self._lock = threading.Condition()
        self._waiting: deque[Observation] = deque(maxlen=WAITING)
        self._since_snapshot: deque[Observation] = deque(maxlen=KEPT_FOR_RESTART)
        self._snapshot: Snapshot | None = None
        self._latest: MirrorEstimate | None = None
        self._process: Any = None
        self._connection: Any = None
        self._life = -1
        self._posted_s = float("-inf")
        self._reached_s = float("-inf")  # newest estimate at the last restart
        self._fruitless = 0  # lives in a row that got no further
        self._calls = 0  # for a restart, since the last one followed
        self.failure = ""  # why the process ended, for the cycle's report
        self._unkept = ""  # why the newest snapshot is not in the folder for others
        self.dropped = 0  # observations that a slow mirror never saw

    def start(self) -> None:
        """Start the process; it loads the city in the background."""
        self._life += 1
        self.failure = ""
        spec = MirrorSpec(
            self._city,
            self._network,
            self._seed,
            Path(self._folder.name),
            self._life,
            self._correct,
            self._snapshot,
        )
        self._process, ours = start_child(serve, name="citytwin-mirror")
        self._connection = ours
        thread = threading.Thread(target=self._converse, args=(spec, ours, self._process), daemon=True)
        thread.start()

    def assimilate(self, state: NetworkState, notices: Sequence[ControlNotice] = ()) -> None:
        """Leave a state with the mirror, which steps to its time. Returns at once, alive or not.

        notices: closures and works known now; what was told with an earlier state and is not among them has ended.
        """
        shift_s = self._city.begin_s - self._city.epoch_s
        told = tuple(reported(notice, self._network, shift_s) for notice in notices)
        seen = observe(state, self._watched, shift_s, told)
        with self._lock:
            self._posted_s = state.now_s
            self._since_snapshot.append(seen)
            if self.alive:
                self.dropped += len(self._waiting) == WAITING
                self._waiting.append(seen)
                self._lock.notify_all()

    def latest(self) -> MirrorEstimate | None:
        """The newest estimate; its `now_s` tells its age. None before the first."""
        return self._latest

    @property
    def alive(self) -> bool:
        return self._process is not None and not self.failure and bool(self._process.is_alive())

    @property
    def process_id(self) -> int | None:
        """Of the mirror's process, for a supervisor."""
        return None if self._process is None else int(self._process.pid)

    @property
    def behind_s(self) -> float:
        """Seconds between the newest state left with the mirror and its newest estimate; inf before the first."""
        return self._posted_s - self._latest.now_s if self._latest is not None else float("inf")

    def wait(self, timeout_s: float) -> bool:
        """Wait until the mirror has caught up with what was left with it; False when it died or ran out of time."""
        with self._lock:
            return self._lock.wait_for(lambda: self.behind_s <= 0 or not self.alive, timeout_s) and self.behind_s <= 0

    def take_complaint(self) -> str:
        """What went wrong beside the mirroring itself since the last call; "" when nothing did."""
        complaint, self._unkept = self._unkept, ""
        return complaint

    def snapshot(self, folder: Path) -> Snapshot | None:
        """The newest snapshot, its state copied into `folder` for branches to take their time; None before it."""
        with self._lock:
            taken = self._snapshot
            if taken is None or not self._has_snapshot():
                return None
            copy = folder / Path(taken.file).name
            shutil.copyfile(taken.file, copy)
        return taken._replace(file=str(copy))

    def kill(self) -> None:
        """End the process at once, as a fault would."""
        if self._process is not None:
            self._process.kill()
            self._process.join(2.0)

    def restart(self) -> None:
        """A new process from the last snapshot; it catches up in the background through the observations since.

        A mirror that dies again without getting further than before begins anew, without snapshot; if that does not
        help either, only ever fewer calls are followed, so that a city that cannot be mirrored costs little.
        """
        self.kill()
        with self._lock:
            self._calls += 1
            if self._calls < 2 ** min(max(0, self._fruitless - FRUITLESS_BEFORE_ANEW), 6):
                return
            self._calls = 0
            reached_s = self._latest.now_s if self._latest is not None else float("-inf")
            self._fruitless = 0 if reached_s > self._reached_s else self._fruitless + 1
            self._reached_s = max(self._reached_s, reached_s)
            if self._fruitless >= FRUITLESS_BEFORE_ANEW or not self._has_snapshot():
                self._snapshot = None
            if self._fruitless >= FRUITLESS_BEFORE_ANEW:
                self._since_snapshot.clear()
            self._waiting.clear()
            self._waiting.extend(self._since_snapshot)
            self.start()
            self._lock.notify_all()

    def close(self) -> None:
        """End the process and remove its files."""
        self.kill()
        with self._lock:
            self._life += 1
            self._lock.notify_all()
        self._folder.cleanup()

    def _converse(self, spec: MirrorSpec, connection: Any, process: Any) -> None:
        """Thread of one life of the process: hand over an observation, take the answer, again."""
        life = spec.life
        try:
            connection.send(spec)
            while True:
                with self._lock:
                    self._lock.wait_for(lambda: bool(self._waiting) or self._life != life or not process.is_alive())
                    if self._life != life:
                        return
                    seen = self._waiting.popleft() if self._waiting else None
                if seen is not None:
                    connection.send(seen)
                estimate, snapshot = receive(connection, process, None, "mirror")
                with self._lock:
                    if self._life != life:
                        return
                    self._latest = estimate
                    if snapshot is not None:
                        self._keep(snapshot)
                    self._lock.notify_all()
                if snapshot is not None and self._kept is not None:
                    self._copy(snapshot, self._kept)
        except (CityTwinError, OSError) as error:
            with self._lock:
                if self._life == life:
                    self.failure = str(error) or type(error).__name__
                    self._waiting.clear()
                self._lock.notify_all()
        finally:
            connection.close()

    def _copy(self, snapshot: Snapshot, folder: Path) -> None:
        """Into the folder for others. That it cannot be written must not end the mirror."""
        try:
            keep(snapshot, self._city, self._network, folder)
        except OSError as defect:
            self._unkept = f"mirror snapshot not kept: {defect}"

    def _has_snapshot(self) -> bool:
        return self._snapshot is not None and Path(self._snapshot.file).is_file()

    def _keep(self, snapshot: Snapshot) -> None:
        if self._snapshot is not None:
            Path(self._snapshot.file).unlink(missing_ok=True)
        self._snapshot = snapshot
        while self._since_snapshot and self._since_snapshot[0].until_s <= snapshot.at_s:
            self._since_snapshot.popleft()
