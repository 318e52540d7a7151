"""The one place that starts and steps SUMO.

SUMO runs through libsumo: one simulation a process, no sockets. A fatal SUMO error can end the process, so whatever
owns a `Simulation` runs in a process of its own (`run_in_process`, the virtual city, the mirror) and must not import
pyarrow or geopandas: their shared libraries clash with libsumo's.
"""

from __future__ import annotations

import importlib
import io
import multiprocessing
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from networks.errors import CityError, CityTwinError, ProcessError

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One SUMO run. Nobody is removed from a jam or from the insertion queue, so delays stay comparable."""

    network: Path
    routes: tuple[Path, ...]
    additional: tuple[Path, ...] = ()
    begin_s: float = 0.0
    end_s: float = -1.0  # simulated second; < 0: open
    seed: int = 0
    step_s: float = 1.0
    mesoscopic: bool = False
    tripinfo: Path | None = None
    load_state: Path | None = None  # then `begin_s` follows from the state
    extra: tuple[str, ...] = ()  # further SUMO options
    scratch: Path | None = None  # temporary files go here, for a keeper to remove; None: the system's place

    def arguments(self, error_log: Path) -> list[str]:
        """The command line for libsumo."""
        words = ["sumo", "-n", str(self.network), "--seed", str(self.seed), "--step-length", str(self.step_s)]
        if self.routes:
            words += ["-r", ",".join(map(str, self.routes))]
        if self.additional:
            words += ["-a", ",".join(map(str, self.additional))]
        if self.load_state is None:
            words += ["-b", str(self.begin_s)]
        else:
            words += ["--load-state", str(self.load_state)]
        if self.end_s >= 0:
            words += ["-e", str(self.end_s)]
        if self.mesoscopic:
            words.append("--mesosim")
        if self.tripinfo is not None:
            words += ["--tripinfo-output", str(self.tripinfo), "--tripinfo-output.write-unfinished"]
        words += ["--time-to-teleport", "-1", "--max-depart-delay", "-1", "--no-warnings", "--no-step-log"]
        words += ["--xml-validation", "never", "--duration-log.disable", "--error-log", str(error_log)]
        return [*words, *self.extra]


class Simulation:
    """A SUMO run in this process, as a context manager. `sumo` is the libsumo module.

    Raises CityError with SUMO's own message when the files cannot be loaded, ProcessError when a step fails.
    """

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self._folder = tempfile.TemporaryDirectory(prefix="citytwin_sumo_", dir=spec.scratch)
        self._error_log = Path(self._folder.name) / "errors.txt"

    def __enter__(self) -> Self:
        self.sumo = libsumo = _libsumo()
        try:
            libsumo.start(self.spec.arguments(self._error_log))
        except (libsumo.TraCIException, libsumo.FatalTraCIError) as defect:
            raise CityError(f"SUMO cannot load {self.spec.network}: {self._message(defect)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sumo.close()
        self._folder.cleanup()

    @property
    def now_s(self) -> float:
        """Simulated seconds."""
        return float(self.sumo.simulation.getTime())

    def step(self) -> None:
        """Advance by one step length."""
        try:
            self.sumo.simulationStep()
        except (self.sumo.TraCIException, self.sumo.FatalTraCIError) as defect:
            raise ProcessError(f"SUMO stopped: {self._message(defect)}") from None

    def run_until(self, time_s: float) -> None:
        """Advance to a simulated second at once: faster than single steps for whoever need not look in between."""
        try:
            self.sumo.simulationStep(time_s)
        except (self.sumo.TraCIException, self.sumo.FatalTraCIError) as defect:
            raise ProcessError(f"SUMO stopped: {self._message(defect)}") from None

    def save(self, path: Path) -> None:
        """Write a snapshot that `RunSpec.load_state` continues from in a new process (never in this one)."""
        self.sumo.simulation.saveState(str(path))

    def _message(self, defect: Exception) -> str:
        logged = self._error_log.read_text(errors="replace").strip() if self._error_log.exists() else ""
        return "; ".join(dict.fromkeys(logged.splitlines())) or str(defect)


def _libsumo() -> Any:
    """The module, imported late so that importing ours stays cheap.

    It prints a warning to stdout where pyarrow is installed too; nothing here loads both, and stdout may carry JSON.
    """
    with redirect_stdout(io.StringIO()):
        return importlib.import_module("libsumo")


# A snapshot must hold the random numbers and full digits, or the continued run drifts from the first second.
SNAPSHOT_OPTIONS = ("--save-state.rng", "--save-state.precision", "16")


def run_in_process(function: Callable[..., Result], *arguments: Any, timeout_s: float | None = None) -> Result:
    """Call a module-level function in a new process and hand back what it returns.

    A CityTwinError raised there is raised here; ProcessError when the process died, failed or took too long.
    """
    process, ours = start_child(_call, function, arguments, name=function.__name__)
    try:
        return receive(ours, process, timeout_s, function.__name__)  # type: ignore[no-any-return]
    finally:
        process.kill()
        process.join()
        ours.close()


def start_child(target: Callable[..., Any], *arguments: Any, name: str) -> tuple[Any, Connection]:
    """Start `target(connection, *arguments)` in a new process; the process, and our end of the connection.

    A spawned child first imports its parent's main module again. Of ours that is the whole program: seconds of
    loading, and libraries that clash with libsumo's. So it is spared, wherever nothing handed over is defined there.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True, name=name)
    needs_main = any(getattr(part, "__module__", "") == "__main__" for part in (target, *arguments))
    try:
        if needs_main:
            process.start()
        else:
            with _nameless_main():
                process.start()
    finally:
        theirs.close()
    return process, ours


_starting = threading.Lock()


@contextmanager
def _nameless_main() -> Iterator[None]:
    """While it lasts, multiprocessing finds no file to import as a child's main module."""
    main = sys.modules["__main__"].__dict__
    with _starting:
        kept: dict[str, Any] = {name: main[name] for name in ("__file__", "__spec__") if name in main}
        main.pop("__file__", None)
        main["__spec__"] = None
        try:
            yield
        finally:
            main.update(kept)


def receive(connection: Connection, process: Any, timeout_s: float | None, name: str) -> Any:
    """The next answer of a child that sends (kind, value) pairs: the value of "done", or the error it sent.

    Raises ProcessError when the process is gone or does not answer in time; never hangs on a killed one.
    """
    ready = wait([connection, process.sentinel], timeout_s)
    if not ready:
        raise ProcessError(f"{name}: no answer within {timeout_s} s")
    try:
        if connection.poll():
            kind, value = connection.recv()
            if kind == "done":
                return value
            raise value if isinstance(value, CityTwinError) else ProcessError(f"{name}: {value}")
    except (EOFError, ConnectionError):
        pass
    process.join(1.0)
    raise ProcessError(f"{name}: the process died (exit code {process.exitcode})")


def guard(connection: Connection, work: Callable[[], Any]) -> None:
    """Body of a child process: do the work; errors travel to the parent, interrupts are the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone: nobody is left to tell
    except CityTwinError as error:
        connection.send(("error", error))
    except Exception:
        connection.send(("error", traceback.format_exc()))


def _call(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    guard(connection, lambda: connection.send(("done", function(*arguments))))
