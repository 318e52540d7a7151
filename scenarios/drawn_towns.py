"""Drawn towns to train forecasters on: days of SUMO runs on random networks, as the town's detectors would tell them.

Streets come from netgenerate (random, grid or spider), signals from its guess with a drawn cycle. People live, work
and shop at drawn places; pairs of places exchange vehicles by a gravity law (Ortúzar & Willumsen 2011, ch. 5), to the
hours of their kind of trip, on days that differ as days do: weekends, holidays, moods of a day, of a part of it and
of a place. Streets are held up for an hour here and there, rain slows a day. Each day is one mesoscopic run.
Detectors see a share of their street, fail, and may change their level. Nothing is fitted to a place.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import sumolib
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import dijkstra

from forecasting.drawn_noise import MONDAY_S, STEP_S, draw_missing, slow_noise
from forecasting.recording import UNITS, Recording
from forecasting.series import DAY_S
from networks.errors import ProcessError
from networks.graph import PASSENGER, Floats, Ints, Network
from networks.readers.sumo import read_sumo
from scenarios.edge_run import MESOSCOPIC_OPTIONS
from scenarios.shortest import Leg, find_ways

_PER_DAY = DAY_S // STEP_S
_PLACES = 45  # edges where trips begin or end
_PAIRS = 420
_LANE_VPS = 0.5  # of a street with green all the time
_GREEN = 0.42  # share of it at a signal
_LOAD = (0.3, 0.65)  # of the street that 97 % carry less than, at a workday's peak; with more, towns jam for good
_SHORTEST_M = 400.0
_REACH_M = 900.0  # farther detectors are no neighbours
_LEAST_VEH = 1.0  # a step, in the mean: less is no place for a detector
_DAY_TIMEOUT_S = 1800.0
_HOMEWARD, _WORKWARD, _OTHER = range(3)


@dataclass(frozen=True, slots=True)
class _Trips:
    """The pairs of places, with up to three ways each."""

    ways: list[list[tuple[int, ...]]]  # edges
    kind: Ints  # (P,)
    volume: Floats  # (P,) vehicles a second, at the peak of the kind
    likes: list[Floats]  # shares of the ways


def draw_town(seed: int, *, days: int, processes: int = 1, junctions: int | None = None) -> Recording:
    """Flows and speeds at the detectors of a town of its own for every seed; equal arguments give equal towns.

    `junctions`: about so many; None draws it. Raises ProcessError when SUMO does not do a day.
    """
    rng = np.random.default_rng((seed, 77))
    with tempfile.TemporaryDirectory(prefix="citytwin_town_") as name:
        folder = Path(name)
        net = _draw_streets(rng, junctions or int(rng.integers(40, 130)), folder)
        network = read_sumo(net)
        trips = _draw_trips(rng, network)
        calendar = _draw_calendar(rng, days)
        hours = float(rng.uniform(0.7, 3.0))
        moods = slow_noise(rng, days * _PER_DAY, (len(trips.volume),), hours=hours, spread=0.16)

        def live(day: int) -> pd.DataFrame:
            own = np.random.default_rng((seed, 78, day))
            routes, more = _write_day(own, network, trips, calendar, moods, day, folder)
            return _drive(net, routes, more, seed + day)

        counted = np.zeros((days * _PER_DAY, len(network.edges.ids)))
        speed_mps = np.full_like(counted, np.nan)
        with ThreadPoolExecutor(processes) as pool:
            for day, table in enumerate(pool.map(live, range(days))):
                _fill(table, network, day, counted, speed_mps)
    return _detect(rng, seed, network, calendar.first_weekday, counted, speed_mps)


def _draw_streets(rng: np.random.Generator, junctions: int, folder: Path) -> Path:
    net = folder / "town.net.xml"
    kind = int(rng.choice(3, p=[0.6, 0.25, 0.15]))
    length = float(rng.uniform(140, 320))
    if kind == 0:
        shape = [
            *("--rand", "--rand.iterations", str(round(1.8 * junctions))),
            *("--rand.min-distance", f"{0.6 * length:.0f}", "--rand.max-distance", f"{1.7 * length:.0f}"),
        ]
    elif kind == 1:
        side = max(3, round(junctions**0.5))
        shape = [
            *("--grid", "--grid.x-number", str(side), "--grid.y-number", str(max(2, junctions // side))),
            *("--grid.length", f"{length:.0f}", "--grid.attach-length", f"{length:.0f}"),
        ]
    else:
        arms = int(rng.integers(5, 10))
        shape = [
            *("--spider", "--spider.arm-number", str(arms), "--spider.circle-number", str(max(2, junctions // arms))),
            *("--spider.space-radius", f"{length:.0f}"),
        ]
    command = [
        sumolib.checkBinary("netgenerate"), *shape, "-o", str(net), "--seed", str(int(rng.integers(1, 10**6))),
        "--default.lanenumber", "3", "--random-lanenumber", "--random-priority", "--no-turnarounds",
        "--default.speed", f"{rng.uniform(11.0, 16.0):.1f}", "--tls.guess", "--tls.guess.threshold",
        f"{rng.uniform(40, 75):.0f}", "--tls.cycle.time", str(int(rng.integers(60, 111))),
    ]  # fmt: skip
    _run(command, "netgenerate", 300.0)
    return net


def _draw_trips(rng: np.random.Generator, network: Network) -> _Trips:
    edges = network.edges
    usable = np.flatnonzero(edges.length_m > 60.0)
    places = rng.choice(usable, min(_PLACES, len(usable)), replace=False)
    middle = np.array([edges.shape_xy[e].reshape(-1, 2).mean(axis=0) for e in places])
    home, work = rng.lognormal(0.0, 0.8, len(places)), rng.lognormal(0.0, 1.1, len(places))
    apart_m = np.linalg.norm(middle[:, None] - middle[None], axis=-1)
    typical_m = float(rng.uniform(0.5, 1.2)) * float(apart_m.mean())
    gravity = home[:, None] * work[None] * np.exp(-apart_m / typical_m) * (apart_m > _SHORTEST_M)
    share = gravity / gravity.sum()
    drawn = rng.choice(gravity.size, _PAIRS, p=share.ravel())
    legs: list[tuple[Leg, int]] = []
    for pair in drawn.tolist():
        at_home, at_work = int(places[pair // len(places)]), int(places[pair % len(places)])
        kind = int(rng.choice(3, p=[0.35, 0.35, 0.3]))
        ends = (at_work, at_home) if kind == _HOMEWARD else (at_home, at_work)
        legs.append((Leg(*ends, PASSENGER), kind))
    found = find_ways(network, [leg for leg, _ in legs], others=True)
    ways = [[found[leg].own, *found[leg].others[:2]] for leg, _ in legs]
    good = [k for k, w in enumerate(ways) if len(w[0]) > 1]
    ways, kinds = [ways[k] for k in good], np.array([legs[k][1] for k in good])
    volume = rng.lognormal(0.0, 0.6, len(good))
    likes = [_shares_of_ways(rng, len(of_pair)) for of_pair in ways]
    peak = np.zeros(len(edges.ids))
    for of_pair, often, like in zip(ways, volume, likes, strict=True):
        for way, of_way in zip(of_pair, like, strict=True):
            np.add.at(peak, list(way), 0.7 * often * of_way)
    load = peak / (edges.lane_count * _LANE_VPS * _GREEN)
    busiest = float(np.quantile(load[load > 0], 0.97))
    return _Trips(ways, kinds, volume * rng.uniform(*_LOAD) / busiest, likes)


def _shares_of_ways(rng: np.random.Generator, count: int) -> Floats:
    like = rng.dirichlet(np.full(count, 1.5))
    shares: Floats = 0.5 * like + 0.5 * (np.arange(count) == 0)
    return shares


@dataclass(frozen=True, slots=True)
class _Calendar:
    first_weekday: int  # 0 = Monday
    free: NDArray[np.bool_]  # (D,) weekends and holidays
    level: Floats  # (D,) of the whole town
    rain: list[tuple[int, int] | None]  # steps of the day
    late_h: Floats  # (D,) everybody
    hours: Floats  # (4,) middle of the peaks and their widths


def _draw_calendar(rng: np.random.Generator, days: int) -> _Calendar:
    first = int(rng.integers(0, 7))
    free = ((np.arange(days) + first) % 7 >= 5) | (rng.random(days) < 0.05)
    rain: list[tuple[int, int] | None] = []
    for _ in range(days):
        begin = int(rng.integers(0, _PER_DAY // 2))
        rain.append((begin, begin + int(rng.integers(12, 150))) if rng.random() < 0.25 else None)
    hours = np.array([*rng.uniform((7.0, 16.3), (8.4, 18.0)), *rng.uniform((0.7, 1.2), (1.5, 2.2))])
    return _Calendar(first, free, rng.lognormal(0.0, 0.05, days), rain, rng.normal(0.0, 0.12, days), hours)


def _shapes(calendar: _Calendar, day: int) -> Floats:
    """Trips of each kind over those at its peak (3, steps of a day)."""
    hour = np.arange(_PER_DAY) * STEP_S / 3600.0 - calendar.late_h[day]
    morning, evening, first_width, second_width = calendar.hours

    def hump(middle: float, width: float) -> Floats:
        found: Floats = np.exp(-0.5 * ((hour - middle) / width) ** 2)
        return found

    night = 0.03 + 0.04 * hump(23.0, 2.0)
    if calendar.free[day]:
        whole = night + 0.55 * hump(14.5, 3.6)
        return np.stack([whole, 0.8 * whole, whole + 0.2 * hump(20.0, 2.0)])
    between = 0.4 * hump(13.0, 3.2)
    towards = night + np.maximum(hump(morning, first_width), 0.6 * between)
    back = night + np.maximum(hump(evening, second_width), 0.6 * between)
    other = night + np.maximum.reduce(
        [1.5 * between, 0.5 * hump(morning, first_width), 0.7 * hump(evening, second_width)]
    )
    return np.stack([back, towards, other])


def _write_day(
    rng: np.random.Generator, network: Network, trips: _Trips, calendar: _Calendar, moods: Floats, day: int,
    folder: Path,
) -> tuple[Path, Path]:  # fmt: skip
    """Route and additional file of a day."""
    at = slice(day * _PER_DAY, (day + 1) * _PER_DAY)
    shapes = _shapes(calendar, day)[trips.kind].T  # (steps, P)
    rate = shapes * trips.volume * moods[at] * calendar.level[day] * rng.lognormal(0.0, 0.1, len(trips.volume))
    if rng.random() < 0.3:  # many come to one place, or leave it
        some = rng.random(len(trips.volume)) < 0.04
        begin = int(rng.uniform(9.0, 21.0) * 3600 / STEP_S)
        rate[begin : begin + int(rng.integers(6, 24)), some] *= rng.uniform(1.5, 5.0)
    count = rng.poisson(rate * STEP_S)
    step, pair = np.nonzero(count)
    often = count[step, pair]
    step, pair = np.repeat(step, often), np.repeat(pair, often)
    depart_s = (step + rng.random(len(step))) * STEP_S
    likes = [0.8 * like + 0.2 * rng.dirichlet(np.ones(len(like))) for like in trips.likes]
    cumulative = np.ones((len(likes), 3))
    for k, like in enumerate(likes):
        cumulative[k, : len(like)] = np.cumsum(like)
    way = (rng.random(len(step))[:, None] > cumulative[pair]).sum(axis=1)
    way = np.minimum(way, [len(trips.ways[p]) - 1 for p in pair.tolist()])
    wet = calendar.rain[day]
    slow = (step >= wet[0]) & (step < wet[1]) if wet is not None else np.zeros(len(step), np.bool_)
    ids = network.edges.ids
    routes = folder / f"day{day}.rou.xml"
    with routes.open("w", encoding="utf-8") as file:
        file.write('<routes>\n<vType id="dry"/>\n<vType id="wet" speedFactor="normc(0.85,0.1,0.2,2)" tau="1.3"/>\n')
        for p, ways in enumerate(trips.ways):
            for w, edges in enumerate(ways):
                file.write(f'<route id="{p}.{w}" edges="{" ".join(ids[e] for e in edges)}"/>\n')
        for n, k in enumerate(np.argsort(depart_s, kind="stable").tolist()):
            file.write(
                f'<vehicle id="{n}" type="{"wet" if slow[k] else "dry"}" route="{pair[k]}.{way[k]}" '
                f'depart="{depart_s[k]:.1f}"/>\n'
            )
        file.write("</routes>\n")
    more = folder / f"day{day}.add.xml"
    with more.open("w", encoding="utf-8") as file:
        file.write("<additional>\n")
        file.write(
            f'<edgeData id="d" file="{folder / f"day{day}.parquet"}" period="{STEP_S}" excludeEmpty="true" '
            'writeAttributes="left speed"/>\n'
        )
        for sign in _hold_ups(rng, network):
            file.write(sign)
        file.write("</additional>\n")
    return routes, more


def _hold_ups(rng: np.random.Generator, network: Network) -> Iterator[str]:
    """Streets on which everybody crawls for a while: works, a vehicle that broke down, a lorry unloading."""
    for n in range(rng.poisson(4.0)):
        edge = int(rng.integers(len(network.edges.ids)))
        begin_s = rng.uniform(6.0, 21.5) * 3600
        lanes = network.lanes.ids[network.edges.first_lane[edge] : network.edges.first_lane[edge + 1]]
        usual = network.edges.speed_limit_mps[edge]
        yield (
            f'<variableSpeedSign id="v{n}" lanes="{" ".join(lanes)}"><step time="0" speed="{usual:.2f}"/>'
            f'<step time="{begin_s:.0f}" speed="{rng.uniform(0.8, 2.5):.2f}"/>'
            f'<step time="{begin_s + rng.uniform(600, 4500):.0f}" speed="{usual:.2f}"/></variableSpeedSign>\n'
        )


def _drive(net: Path, routes: Path, more: Path, seed: int) -> pd.DataFrame:
    command = [
        sumolib.checkBinary("sumo"), "-n", str(net), "-r", str(routes), "-a", str(more), "--seed", str(seed),
        "--mesosim", *MESOSCOPIC_OPTIONS, "--begin", "0", "--end", str(DAY_S), "--time-to-teleport", "90",
        "--no-step-log", "--no-warnings",
    ]  # fmt: skip
    _run(command, f"SUMO on {routes.name}", _DAY_TIMEOUT_S)
    out = routes.parent / routes.name.replace(".rou.xml", ".parquet")
    table = pd.read_parquet(out)
    for path in (routes, more, out):
        path.unlink()
    return table


def _fill(table: pd.DataFrame, network: Network, day: int, counted: Floats, speed_mps: Floats) -> None:
    row_of = {name: row for row, name in enumerate(network.edges.ids)}
    edge = np.array([row_of.get(name, -1) for name in table["edge_id"]])
    step = (table["interval_begin"].to_numpy(np.float64) / STEP_S).astype(int) + day * _PER_DAY
    known = edge >= 0
    counted[step[known], edge[known]] = table["edge_left"].to_numpy(np.float64)[known]
    speed_mps[step[known], edge[known]] = table["edge_speed"].to_numpy(np.float64)[known]


def _detect(
    rng: np.random.Generator, seed: int, network: Network, first_weekday: int, counted: Floats, speed_mps: Floats
) -> Recording:
    """What detectors at some of the streets make of it."""
    mean = counted.mean(axis=0)
    worth = np.flatnonzero(mean >= min(_LEAST_VEH, mean.max()))
    places = np.sort(rng.choice(worth, max(1, round(len(worth) * float(rng.uniform(0.35, 0.9)))), replace=False))
    lanes = np.maximum(network.edges.lane_count[places], 1)
    of_a_lane = rng.random(len(places)) < 0.5
    share = np.where(of_a_lane, rng.lognormal(0.0, 0.25, len(places)) / lanes, 0.97).clip(0.1, 0.99)
    level = np.tile(share, (len(counted), 1))
    for k in np.flatnonzero(rng.random(len(places)) < 0.04):  # another level from some moment on
        level[int(rng.integers(len(counted))) :, k] *= rng.uniform(0.5, 1.0)
    count = rng.binomial(counted[:, places].astype(np.int64), level)
    relative = rng.uniform(0.02, 0.1, len(places)) * (1.0 + 2.0 / np.sqrt(1.0 + count))
    biased = rng.normal(1.0, 0.04, len(places))
    noise = 1.0 + relative * rng.standard_normal(count.shape)
    speed_kph = np.asarray(3.6 * speed_mps[:, places] * biased * noise, np.float64)
    flow = np.asarray(count * (3600.0 / STEP_S), np.float64)
    speed_kph[count == 0] = np.nan
    gone = draw_missing(rng, count.shape)
    flow[gone] = speed_kph[gone] = np.nan
    edges, metres = _neighbours(network, places)
    return Recording(
        name=f"drawn town {seed}", places=tuple(network.edges.ids[k] for k in places),
        start_s=MONDAY_S + first_weekday * DAY_S + np.arange(len(counted)) * STEP_S, step_s=STEP_S,
        channels={"flow": flow.astype(np.float32), "speed": np.maximum(speed_kph, 1.0).astype(np.float32)},
        target="flow", units=UNITS, edges=edges, edge_length_m=metres.astype(np.float32), licence="own simulation",
        source="mesoscopic SUMO runs of a random network",
    )  # fmt: skip


def _neighbours(network: Network, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """Up to three detectors within reach downstream of each, and how far they are."""
    moves, lanes, edges = network.movements, network.lanes, network.edges
    source, target = lanes.edge[moves.from_lane], lanes.edge[moves.to_lane]
    pairs, first = np.unique(np.stack([source, target]), axis=1, return_index=True)
    metres = edges.length_m[target[first]] + moves.length_m[first]
    graph = sparse.csr_array((metres, (pairs[0], pairs[1])), shape=(len(edges.ids), len(edges.ids)))
    apart = dijkstra(graph, indices=places, limit=_REACH_M)[:, places]
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :3]
    row = np.repeat(np.arange(len(places)), nearest.shape[1])
    to = nearest.ravel()
    found = np.isfinite(apart[row, to])
    return np.stack([row[found], to[found]]), apart[row[found], to[found]]


def _run(command: list[str], what: str, timeout_s: float) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, errors="replace", timeout=timeout_s)
    except subprocess.CalledProcessError as failed:
        lines = [line for line in failed.stderr.splitlines() if line.startswith("Error")]
        raise ProcessError(f"{what}: {'; '.join(lines[:3]) or f'exit code {failed.returncode}'}") from failed
    except subprocess.TimeoutExpired as late:
        raise ProcessError(f"{what}: not done after {timeout_s:g} s") from late
