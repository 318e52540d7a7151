"""Programmes as they are read against the lamps that SUMO shows, jumps between phases (`next`) included."""

from __future__ import annotations

import re
from itertools import cycle, groupby, islice
from pathlib import Path

import pytest

from networks.city import CityFolder
from networks.errors import NetworkError
from networks.graph import Network
from networks.readers.sumo import read_sumo
from scenarios.simulation import RunSpec, run_in_process
from signals.fixed import fixed_plan
from tests.scenarios.sumo_lamps import watch_lamps


def with_programme(city: CityFolder, folder: Path, phases: str, offset: str = "0") -> Path:
    """The tiny city's net with another programme at its first signal. Phases as "G20 y3>0": lamps, seconds, next."""
    text = city.network.read_text()
    logic = re.search(r'<tlLogic id="([^"]+)".*?state="(\w+)".*?</tlLogic>', text, re.DOTALL)
    assert logic is not None
    rows = []
    for phase in phases.split():
        lamp, seconds, jump = re.fullmatch(r"(\w)(\d+)(?:>(.+))?", phase).groups()  # type: ignore[union-attr]
        attribute = f' next="{jump.replace(",", " ")}"' if jump else ""
        rows.append(f'<phase duration="{seconds}" state="{lamp * len(logic[2])}"{attribute}/>')
    made = f'<tlLogic id="{logic[1]}" type="static" programID="0" offset="{offset}">{"".join(rows)}</tlLogic>'
    path = folder / "jumps.net.xml"
    path.write_text(text.replace(logic[0], made))
    return path


def cycles(network: Network) -> dict[str, str]:
    return {s.id: " ".join(f"{p.state[0]}{p.duration_s:g}" for p in s.programme.phases) for s in network.signals}


@pytest.mark.parametrize(
    ("phases", "offset", "shown"),
    [
        ("G9 y3 r4", "5", "G9 y3 r4"),
        ("G9 y3 r4>0 G7 y2", "0", "G9 y3 r4"),
        ("G9 y3 r4>0 G7 y2", "5", "G9 y3 r4"),
        ("G9 y3 r4>0 G7 y2", "-5", "G9 y3 r4"),
        ("G9 y3>3 G5 r4", "20", "G9 y3 r4"),
        ("G9 y3 r4>1", "0", "y3 r4"),
        ("G9>2,0 y3 r4", "0", "G9 r4"),
        ("G9>2 r4>0 y3>1", "7", "G9 y3 r4"),
    ],
)
def test_lamps_are_those_of_sumo(tiny_city: CityFolder, tmp_path: Path, phases: str, offset: str, shown: str) -> None:
    network = read_sumo(with_programme(tiny_city, tmp_path, phases, offset))
    assert shown in cycles(network).values()
    lamps_agree(network, tmp_path / "jumps.net.xml", seconds=80, from_s=20)


def test_a_real_city_with_jumps_shows_the_cycles_read(shared_data: Path) -> None:
    """Static programmes to the second; actuated ones, whose greens hang on traffic, in the same order."""
    path = shared_data / "networks" / "hamburg_tavf" / "net.net.xml.gz"
    network = read_sumo(path)
    real = run_in_process(watch_lamps, RunSpec(path, ()), 400)
    assert {s.programme.kind for s in network.signals} == {"static", "actuated"}
    for signal in network.signals:
        lamps = [shown[signal.id][: signal.link_count] for shown in real]
        if signal.programme.kind == "static":
            plan = fixed_plan(signal, epoch_of_zero_s=0.0)
            assert lamps == [plan.state_at(float(second)) for second in range(400)], signal.id
        order = [step.state for step in fixed_plan(signal, epoch_of_zero_s=0.0).steps]
        changes = [state for state, _ in groupby(lamps)]
        assert changes == list(islice(cycle(order), len(changes))), signal.id


def lamps_agree(network: Network, path: Path, *, seconds: int, from_s: int) -> None:
    """In every second from `from_s` on: what SUMO shows before the cycle is no part of it."""
    real = run_in_process(watch_lamps, RunSpec(path, ()), seconds)
    for signal in network.signals:
        plan = fixed_plan(signal, epoch_of_zero_s=0.0)
        ours = [plan.state_at(float(second)) for second in range(from_s, seconds)]
        assert ours == [real[second][signal.id] for second in range(from_s, seconds)], signal.id


@pytest.mark.parametrize("jump", ["3", "-1", "x", "1,7", "1.0"])
def test_a_jump_to_nowhere_is_named(tiny_city: CityFolder, tmp_path: Path, jump: str) -> None:
    path = with_programme(tiny_city, tmp_path, f"G9 y3>{jump} r4")
    with pytest.raises(NetworkError, match=r"jumps.net.xml: <tlLogic> '\w+' is wrong: phase 1: next"):
        read_sumo(path)
