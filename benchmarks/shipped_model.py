"""Train the model that ships, from openly licensed recordings, drawn roads and drawn towns.

python benchmarks/shipped_model.py --out FILE [--data ../shared/data/forecasting] [--members 2] [--steps 6000]
    [--begin FILE]                   an earlier artefact whose members go on, with half the learning rate
    [--sets darmstadt_2024_03,...]   other recordings, for models that do not ship
    [--own-share 0.5]                of a city's steps that go to it as it is; more for a model of these cities
    [--seed 0]                       of the first member
    [--scratch FOLDER]               checkpoints and drawn towns; the same command goes on from there
    [--processes 2]                  that draw towns (SUMO: a quarter of an hour on two cores, once)

Every recording gives its training part alone. One thread.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.progress import track

from forecasting.artifact import Artifact, load_artifact, save_artifact
from forecasting.courses import OWN_SHARE, Course, make_courses
from forecasting.drawn_roads import ARTERIAL, FREEWAY, RoadKind, draw_roads
from forecasting.model import ModelShape
from forecasting.reading import read_series
from forecasting.recording import Recording
from forecasting.series import CitySeries
from forecasting.series_folder import holds_series, read_folder, write_folder
from forecasting.train import Plan, native_bf16, train_model
from scenarios.drawn_towns import draw_town

SHARED = Path(__file__).resolve().parents[2] / "shared"
OPEN = "darmstadt_2024_03,berlin_2023,scats_boroondara_2006_10,guangzhou_500,i94_weather_hourly"
DRAWN: tuple[tuple[RoadKind, str, int], ...] = (  # kind, quantity, days
    (FREEWAY, "speed", 6), (FREEWAY, "speed", 9), (FREEWAY, "speed", 14), (FREEWAY, "speed", 21),
    (ARTERIAL, "speed", 7), (ARTERIAL, "speed", 14), (FREEWAY, "flow", 10), (ARTERIAL, "flow", 9),
    (FREEWAY, "speed", 5), (FREEWAY, "speed", 7), (FREEWAY, "speed", 11), (FREEWAY, "speed", 8),
    (FREEWAY, "speed", 16), (FREEWAY, "flow", 14), (FREEWAY, "speed", 6), (FREEWAY, "speed", 10),
)  # fmt: skip
COUNTRIES = {"i94_weather_hourly": "US-MN"}  # of recordings without coordinates
TOWNS = (10, 14, 9, 18, 12, 7, 21, 10, 16, 11, 14, 8)  # days of the town of each seed, from 1 on
DRAWN_TURNS = 65.0  # of each drawn city; a recording has 100 to 800
TOWN_TURNS = {"flow": 90.0, "speed": 45.0}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    missing = [s for s in options.sets.split(",") if not (options.data / f"{s}.npz").is_file()]
    if missing:
        print(f"--data {options.data}: has no {missing[0]}.npz", file=sys.stderr)
        return 2
    cities = [_recorded(options.data / f"{name}.npz") for name in options.sets.split(",")]
    courses = make_courses(cities, own_share=options.own_share, tell=lambda line: print(line, file=sys.stderr))
    drawn = [(city, seed, DRAWN_TURNS) for seed, city in enumerate(drawn_cities())]
    for seed, town in enumerate(draw_towns(options.scratch, options.processes), 1):
        drawn += [(town.series(channel), seed, turns) for channel, turns in TOWN_TURNS.items()]
    for city, seed, turns in drawn:
        courses += _with_turns(city, seed, turns)
    before = load_artifact(options.begin).members if options.begin else []
    members = []
    for member in range(options.members):
        begin = before[member % len(before)] if before else None
        plan = Plan(
            steps=options.steps, seed=options.seed + member, masked_share=0.3, bf16=native_bf16(),
            learning_rate=2e-3 if begin is None else 1e-3,
        )  # fmt: skip
        checkpoint = options.scratch / f"{options.out.stem}.member{plan.seed}.pt"
        steps = iter(track(range(plan.steps), f"member {member + 1}"))
        done = train_model(
            courses, ModelShape(), plan, checkpoint=checkpoint, begin=begin,
            on_resume=lambda count, steps=steps: [next(steps) for _ in range(count)],
            on_step=lambda _step, _loss, steps=steps: next(steps),
        )  # fmt: skip
        members.append(done.model)
    told = [
        {"name": c.name, "fingerprint": c.fingerprint(), "licence": str(c.meta.get("licence", "not stated")),
         "training_rows": c.training_rows(), "step_s": c.step_s, "places": c.nodes}
        for c in cities
    ] + [{"name": c.name, "fingerprint": c.fingerprint(), "licence": "own simulation", "training_rows": len(c.values),
          "step_s": c.step_s, "places": c.nodes} for c, _, _ in drawn]  # fmt: skip
    save_artifact(options.out, Artifact(options.out.stem, members, told, plan.as_dict()))
    return 0


def _recorded(path: Path) -> CitySeries:
    series = read_series(path)
    country = COUNTRIES.get(path.stem)
    return series if country is None else replace(series, meta={**series.meta, "country": country})


def drawn_cities() -> list[CitySeries]:
    return [
        draw_roads(seed, kind=kind, quantity=quantity, days=days, corridors=4 + seed % 3 * 3)
        for seed, (kind, quantity, days) in enumerate(DRAWN)
    ]


def draw_towns(scratch: Path, processes: int) -> list[Recording]:
    """Every town, drawn once and kept."""
    towns: list[Recording] = []
    for seed, days in enumerate(TOWNS, 1):
        kept = scratch / f"town{seed}.{days}"
        if not holds_series(kept):
            print(f"drawing town {seed} of {len(TOWNS)}, {days} days", file=sys.stderr)
            write_folder(draw_town(seed, days=days, processes=processes), kept)
        towns.append(read_folder(kept))
    return towns


def _with_turns(city: CitySeries, seed: int, turns: float) -> list[Course]:
    courses = make_courses([city], seed=seed)
    drawn = sum(c.turns for c in courses)
    return [replace(c, turns=c.turns / drawn * turns) for c in courses]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "forecasting")
    parser.add_argument("--sets", default=OPEN)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--own-share", type=float, default=OWN_SHARE)
    parser.add_argument("--begin", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", type=Path, default=Path("training"))
    parser.add_argument("--processes", type=int, default=2)
    return parser


if __name__ == "__main__":
    sys.exit(main())
