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

    A stage that misses its deadline goes on in the background; until it is done its fallback stands in.
    """

    def __init__(self, name: str, deadline_s: float, fallback: str) -> None:
        self.name, self.deadline_s, self.fallback = name, deadline_s, fallback
        self._late: Future[Any] | None = None

    def run(self, work: Callable[[], T], instead: Callable[[], T], *, grace: float = 1.0) -> tuple[T, Outcome]:
        """The work's value, or the fallback's; `grace` stretches the deadline (first cycles compile kernels)."""
        begun = time.perf_counter()
        error = ""
        if self._late is not None and not self._late.done():
            error = "still busy with an earlier cycle"
        else:
            self._late = None
            future: Future[T] = Future()
            threading.Thread(target=_carry_out, args=(work, future), name=self.name, daemon=True).start()
            if not wait([future], timeout=self.deadline_s * grace).done:
                self._late, error = future, f"missed its deadline of {self.deadline_s:g} s"
            elif (defect := future.exception()) is not None:
                error = f"{type(defect).__name__}: {defect}"
            else:
                return future.result(), Outcome(self.name, _ms_since(begun))
        value = instead()
        return value, Outcome(self.name, _ms_since(begun), self.fallback, error)


def _carry_out(work: Callable[[], T], future: Future[T]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:  # whatever it is, the cycle has to hear of it
        future.set_exception(error)


def _ms_since(begun: float) -> float:
    return (time.perf_counter() - begun) * 1e3
