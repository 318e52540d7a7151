"""A city whose hours of demand follow each other several times: what a forecast an hour ahead is measured on."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
import zlib
from dataclasses import replace
from pathlib import Path

from networks.city import CityFolder
from networks.readers.sumo_xml import read_seconds
from scenarios.demand import DemandBook, expand_flow, naming, read_elements, write_demand

LOW = 0.6  # of the volume at either end of the day


def lengthen(folder: CityFolder, times: int, out_folder: Path) -> CityFolder:
    """The city with its demand driven `times` times over, written to `out_folder`.

    Whoever has no timetable (no stop on its way) drives in the share of the repetitions that the time of day asks
    for: 0.6 of the volume at first and at last, all of it half way, a half sine between.
    """
    span_s = folder.end_s - folder.begin_s
    book, rows = DemandBook(), []
    for path in folder.routes:
        with naming(path):
            for element in read_elements(path, book):
                for leaver in expand_flow(element, 0):
                    rows += _repeat(leaver, folder, span_s, times)
    out = write_demand(book.heads, rows, out_folder)
    return replace(folder, routes=(out,), end_s=folder.begin_s + times * span_s)


def _repeat(leaver: ET.Element, folder: CityFolder, span_s: float, times: int) -> list[tuple[float, str]]:
    depart_s = read_seconds(leaver.get("depart", leaver.get("begin", "0"))) or 0.0
    if not folder.begin_s <= depart_s < folder.end_s:
        return []
    name = leaver.attrib["id"]
    timed = {stop: float(stop.attrib["until"]) for stop in leaver.iter("stop") if "until" in stop.attrib}
    timetabled = leaver.find("stop") is not None
    rows = []
    for number in range(times):
        at_s = depart_s + number * span_s
        share = LOW + (1.0 - LOW) * math.sin(math.pi * (at_s - folder.begin_s) / (times * span_s))
        if not timetabled and zlib.crc32(f"{name}/{number}".encode()) / 2**32 >= share:
            continue
        leaver.set("id", f"{name}.{number}")
        leaver.set("depart", f"{at_s:.2f}")
        for stop, until_s in timed.items():
            stop.set("until", f"{until_s + number * span_s:.2f}")
        rows.append((at_s, ET.tostring(leaver, encoding="unicode")))
    return rows
