"""The sheet that engineers use: one row a stage, as CSV that spreadsheets open (UTF-8 with a byte order mark).

    junction, plan, kind, cycle, offset, stage, movements, green, yellow, all red, min green, max green, lamps, change

Seconds; headings in English or Chinese. `lamps` are the stage's lamps, one letter a link. `change` spells out the
steps to the next stage ("yyrr:3 rrrr:1", with shortest and longest where they differ: "yyrr:3:2:4"); empty: the
standard one of `stage_rows`, made of yellow and all red. `movements` is there for the reader: it must fit the lamps.
A sheet holds no timetables. Also read: semicolons between cells, GB 18030, as spreadsheets save them.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

from networks.errors import InputError
from networks.graph import Network, Programme, ProgrammePhase, Signal
from signals.formats.book import NamedProgramme, PlanBook, Written, signal_of
from signals.formats.fields import LONGEST_S, check_state, index_of, number_text, readable, seconds_of
from signals.formats.legs import legs_of, served_text, uses_of
from signals.formats.stage_rows import StageRow, phases_of, stage_rows, standard_change_at

HEADINGS = {
    "junction": "路口",
    "plan": "方案",
    "kind": "类型",
    "cycle": "周期",
    "offset": "相位差",
    "stage": "阶段",
    "movements": "放行流向",
    "green": "绿灯",
    "yellow": "黄灯",
    "all red": "全红",
    "min green": "最小绿",
    "max green": "最大绿",
    "lamps": "灯色",
    "change": "过渡",
}
_NEEDED = ("junction", "plan", "offset", "green", "yellow", "all red", "lamps")

_Row = Mapping[str, str]


def book_to_sheet(book: PlanBook, network: Network, *, chinese: bool = False) -> Written:
    """The sheet with its byte order mark. Raises InputError for a programme that does not fit its signal."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(HEADINGS.values() if chinese else HEADINGS.keys())
    left_out = [f"timetable {t.id!r}" for t in book.timetables]
    for named in book.programmes:
        programme, signal = named.programme, signal_of(named, network)
        if not programme.phases:
            left_out.append(f"programme {programme.id!r} of signal {named.signal_id!r}: it shows nothing")
            continue
        legs = legs_of(signal, network)
        uses = uses_of(signal, network, legs)
        before_s, rows = stage_rows(programme)
        for number, row in enumerate(rows):
            green = row.green
            writer.writerow(
                (
                    named.signal_id,
                    programme.id,
                    programme.kind,
                    number_text(programme.cycle_s),
                    number_text(programme.offset_s + before_s),
                    number + 1,
                    served_text(green.state, uses, legs, chinese=chinese),
                    number_text(green.duration_s),
                    number_text(row.yellow_s),
                    number_text(row.all_red_s),
                    number_text(green.min_s),
                    number_text(green.max_s),
                    green.state,
                    _change_text(row, rows[(number + 1) % len(rows)], signal),
                )
            )
    return Written("\ufeff" + stream.getvalue(), tuple(left_out))


def book_from_sheet(path: Path, network: Network) -> PlanBook:
    """Programmes of a sheet. Raises InputError naming the file, the row and the column."""
    rows = _read(path)
    programmes = []
    for (junction, plan), members in groupby(rows, key=lambda r: (r[1]["junction"], r[1]["plan"])):
        programmes.append(_programme(path, junction, plan, list(members), network))
    times = Counter((p.signal_id, p.programme.id) for p in programmes)
    for (junction, plan), count in times.items():
        if count > 1:
            raise InputError(f"{path}: the rows of plan {plan!r} at {junction!r} do not stand together")
    return PlanBook(tuple(programmes))


def _programme(
    path: Path, junction: str, plan: str, members: list[tuple[int, _Row]], network: Network
) -> NamedProgramme:
    first, head = members[0]
    where = f"{path}: row {first}"
    signal = network.signals[index_of(junction, network.signal_index, f"{where}: junction")]
    legs = legs_of(signal, network)
    uses = uses_of(signal, network, legs)
    greens = [_green(f"{path}: row {n}", row, signal) for n, row in members]
    stages = []
    for k, (n, row) in enumerate(members):
        here = f"{path}: row {n}"
        for column in ("offset", "cycle", "kind"):
            if row.get(column, "") != head.get(column, ""):
                raise InputError(f"{here}: {column}: differs from row {first} of the same plan")
        said = row.get("movements", "").strip()
        fitting = [served_text(greens[k].state, uses, legs, chinese=zh) for zh in (False, True)]
        if said and said not in fitting:
            raise InputError(f"{here}: movements: {said!r}, but the lamps open {fitting[0]!r}; change the lamps too")
        stages.append(StageRow(greens[k], _change(here, row, greens[k], greens[(k + 1) % len(greens)], signal)))
    offset_s = seconds_of(head["offset"], f"{where}: offset")
    programme = Programme(plan, head.get("kind") or "static", offset_s, phases_of(stages))
    cycle = head.get("cycle", "").strip()
    if cycle and abs(seconds_of(cycle, f"{where}: cycle") - programme.cycle_s) > 1e-6:
        raise InputError(f"{where}: cycle: {cycle} s, but the stages add up to {number_text(programme.cycle_s)} s")
    return NamedProgramme(junction, programme)


def _green(where: str, row: _Row, signal: Signal) -> ProgrammePhase:
    state = check_state(row["lamps"].strip(), f"{where}: lamps")
    if len(state) < signal.link_count:
        raise InputError(f"{where}: lamps: {len(state)} for {signal.link_count} links of {signal.id!r}")
    green_s = _positive(row["green"], f"{where}: green")
    least_s = seconds_of(row.get("min green") or row["green"], f"{where}: min green", least_s=0.0)
    most_s = seconds_of(row.get("max green") or row["green"], f"{where}: max green", least_s=least_s)
    return ProgrammePhase(state, green_s, least_s, most_s)


def _change(
    where: str, row: _Row, now: ProgrammePhase, following: ProgrammePhase, signal: Signal
) -> tuple[ProgrammePhase, ...]:
    yellow_s = seconds_of(row["yellow"], f"{where}: yellow", least_s=0.0)
    all_red_s = seconds_of(row["all red"], f"{where}: all red", least_s=0.0)
    if len(now.state) != len(following.state):
        raise InputError(f"{where}: lamps: {len(now.state)}, but {len(following.state)} in the next stage")
    text = row.get("change", "").strip()
    if not text:
        return standard_change_at(now.state, following.state, signal, yellow_s, all_red_s)
    steps = [_step(part, f"{where}: change") for part in text.split()]
    if any(len(step.state) != len(now.state) for step in steps):
        raise InputError(f"{where}: change: a step has another number of lamps than the stage")
    change = StageRow(now, tuple(steps))
    for column, said_s, found_s in (("yellow", yellow_s, change.yellow_s), ("all red", all_red_s, change.all_red_s)):
        if abs(said_s - found_s) > 1e-6:
            raise InputError(
                f"{where}: {column}: {number_text(said_s)} s, but the steps of the change add up to "
                f"{number_text(found_s)} s; empty the change for the standard one"
            )
    return change.change


def _step(text: str, where: str) -> ProgrammePhase:
    state, *numbers = text.split(":")
    if len(numbers) not in (1, 3):
        raise InputError(f"{where}: {text!r} is not lamps:seconds")
    seconds = [seconds_of(number, where, least_s=0.0) for number in numbers]
    if not seconds[0] > 0.0:
        raise InputError(f"{where}: {text!r} takes no time")
    least_s, most_s = seconds[1:] or (seconds[0], seconds[0])
    return ProgrammePhase(check_state(state, where), seconds[0], least_s, most_s)


def _change_text(row: StageRow, following: StageRow, signal: Signal) -> str:
    if row.change == standard_change_at(row.green.state, following.green.state, signal, row.yellow_s, row.all_red_s):
        return ""
    return " ".join(_step_text(step) for step in row.change)


def _step_text(step: ProgrammePhase) -> str:
    numbers = [step.duration_s]
    if not step.min_s == step.duration_s == step.max_s:
        numbers += [step.min_s, step.max_s]
    return ":".join((step.state, *map(number_text, numbers)))


def _positive(text: str, where: str) -> float:
    value = seconds_of(text, where, least_s=0.0, most_s=LONGEST_S)
    if value <= 0.0:
        raise InputError(f"{where}: a stage of {text} s")
    return value


def _read(path: Path) -> list[tuple[int, _Row]]:
    """Rows with their number in the file, cells by English heading."""
    with readable(path):
        raw = path.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("gb18030")
    heading = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=heading.count)
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as defect:
        raise InputError(f"{path}: not readable as CSV: {defect}") from defect
    english = {zh: en for en, zh in HEADINGS.items()}
    columns = [english.get(cell.strip(), cell.strip().lower()) for cell in (table[0] if table else [])]
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise InputError(f"{path}: row 1: there is no column {missing[0]!r}")
    rows: list[tuple[int, _Row]] = []
    for number, cells in enumerate(table[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < len(columns):
            raise InputError(f"{path}: row {number}: {len(cells)} cells, the headings are {len(columns)}")
        rows.append((number, dict(zip(columns, cells, strict=False))))
    return rows
