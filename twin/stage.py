"""One stage of the cycle: run within a deadline, or replaced by its declared fallback."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Outcome(NamedTuple):
    """How a stage went in one cycle."""

    stage: str
    ms: float
    fallback: str = ""  # what stood in for it, "" when it did its job
    error: str = ""  # why


class Stage(Generic[T]):
    """Runs a stage's work in a thread of its own, so that a stuck stage holds up neither the cycle nor the exit.

    A stage that misses its deadline goes on in the background; until it is done its fallback stands in. `run` waits
    for the work; a cycle that need not wait calls `begin`, and `collect` in a later cycle.
    """

    def __init__(self, name: str, deadline_s: float, fallback: str) -> None:
        self.name, self.deadline_s, self.fallback = name, deadline_s, fallback
        self._begun: Future[Any] | None = None  # and not collected yet
        self._late: Future[Any] | None = None

    @property
    def begun(self) -> bool:
        """Whether there is something to collect: work, or the news that it could not begin."""
        return self._begun is not None

    @property
    def busy(self) -> bool:
        """Whether work that missed its deadline is still going on."""
        return self._late is not None and not self._late.done()

    def run(self, work: Callable[[], T], instead: Callable[[], T], *, grace: float = 1.0) -> tuple[T, Outcome]:
        """The work's value, or the fallback's; `grace` stretches the deadline (first cycles compile kernels)."""
        self.begin(work)
        return self.collect(instead, grace=grace)

    def begin(self, work: Callable[[], T]) -> bool:
        """Let the work begin, unless the stage is still busy with an earlier one; whether it did."""
        if self.busy:
            return False
        self._late = None
        future: Future[T] = Future()
        self._begun = future
        threading.Thread(target=_carry_out, args=(work, future), name=self.name, daemon=True).start()
        return True

    def collect(self, instead: Callable[[], T], *, grace: float = 1.0) -> tuple[T, Outcome]:
        """The value of the work that was begun, waiting for it up to the deadline, or the fallback's."""
        begun_s = time.perf_counter()
        future, self._begun = self._begun, None
        if future is None:
            error = "still busy with an earlier cycle"
        elif not wait([future], timeout=self.deadline_s * grace).done:
            self._late, error = future, f"missed its deadline of {self.deadline_s:g} s"
        elif (defect := future.exception()) is not None:
            error = f"{type(defect).__name__}: {defect}"
        else:
            return future.result(), Outcome(self.name, _ms_since(begun_s))
        value = instead()
        return value, Outcome(self.name, _ms_since(begun_s), self.fallback, error)

    def take_late(self) -> T | None:
        """The value of work that missed its deadline, once it is done; None: there is none, or it failed."""
        late = self._late
        if late is None or not late.done():
            return None
        self._late = None
        return None if late.exception() is not None else late.result()


def _carry_out(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # whatever it is, the cycle has to hear of it
        future.set_exception(error)


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1e3
