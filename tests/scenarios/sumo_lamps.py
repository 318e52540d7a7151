"""What SUMO itself shows, read in a process of its own."""

from __future__ import annotations

from scenarios.simulation import RunSpec, Simulation


def watch_lamps(spec: RunSpec, seconds: int) -> list[dict[str, str]]:
    """Lamps of every signal in each of the first seconds."""
    shown = []
    with Simulation(spec) as run:
        api = run.sumo.trafficlight
        for _ in range(seconds):
            run.step()
            shown.append({name: api.getRedYellowGreenState(name) for name in api.getIDList()})
    return shown


def die(code: int) -> None:
    """End the process without a word."""
    raise SystemExit(code)
