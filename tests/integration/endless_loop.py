"""A loop to be killed: says after every cycle which one it was, whose processes it has, and how many rows came in."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from networks.city import read_city
from scenarios.virtual_city import StreetOptions, VirtualCity
from twin.app import build_model
from twin.live import run_live
from twin.loop import City, CycleReport, Pace


def run(city_folder: Path, store: Path) -> None:
    folder = read_city(city_folder)
    children: list[int] = []

    def say(city: City, report: CycleReport, street: VirtualCity) -> None:
        if not children:
            assert city.mirror is not None
            children.extend(pid for pid in (street.process_id, city.mirror.process_id) if pid is not None)
        rows = {feed: tally.rows_accepted for feed, tally in city.inbox.tallies.items()}
        print(json.dumps({"cycle": report.cycle + 1, "rows": rows, "children": children}), flush=True)

    day = StreetOptions(seed=5, duration_s=600.0, coverage=folder.coverage)
    run_live(build_model(folder), day, Pace(cycle_s=5.0, deadline_s=60.0), store=store, watch=say)


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]))
