"""Plans survive the way through every format, and no torn file does more than be refused."""

from __future__ import annotations

import csv
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sumolib
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks.errors import InputError
from networks.graph import Network, Programme, ProgrammePhase
from networks.readers.sumo import read_sumo
from signals.formats.book import (
    NamedProgramme,
    PlanBook,
    Switch,
    TimedSignal,
    Timetable,
    book_of_network,
    plan_of,
)
from signals.formats.document import SCHEMA_FILE, book_from_json, book_to_json, plan_schema
from signals.formats.files import FORMATS, Circumstances, format_of_name, read_book, runs_once, sniff
from signals.formats.gat1049 import book_from_gat1049, book_to_gat1049
from signals.formats.sheet import book_from_sheet, book_to_sheet
from signals.formats.stage_rows import phases_of, stage_rows, standard_change
from signals.formats.sumo import book_from_sumo, book_to_sumo
from tests.signals.drawn_junctions import crossroads, drawn_net
from tests.signals.test_formats import lamps_in_sumo

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LINKS = 20
quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=8)
tenths = st.integers(1, 900).map(lambda t: t / 10)


@st.composite
def phases(draw, seconds=tenths):
    duration_s = draw(seconds)
    least_s, most_s = (duration_s, duration_s) if draw(st.booleans()) else (duration_s / 2, duration_s + 1)
    return ProgrammePhase(draw(st.text("GgyYrusoO", min_size=LINKS, max_size=LINKS)), duration_s, least_s, most_s)


programmes = st.builds(
    Programme,
    names,
    st.sampled_from(["static", "actuated"]),
    st.integers(-2000, 2000).map(lambda t: t / 10),
    st.lists(phases(), min_size=1, max_size=7).map(tuple),
)
timetables = st.builds(
    Timetable,
    names,
    names,
    st.lists(st.builds(Switch, tenths, names), max_size=3).map(tuple),
    st.lists(st.builds(TimedSignal, names, st.sampled_from(["", "GSP"]), st.booleans()), max_size=2).map(tuple),
    tenths,
    st.sampled_from([0.0, 86400.0]),
)
books = st.builds(
    PlanBook,
    st.lists(
        st.builds(NamedProgramme, names, programmes), max_size=3, unique_by=lambda n: (n.signal_id, n.programme.id)
    ).map(tuple),
    st.lists(timetables, max_size=2, unique_by=lambda t: t.id).map(tuple),
)


def at_noon(network: Network, epoch_of_zero_s: float = 0.0) -> Circumstances:
    return Circumstances(network, NOON, epoch_of_zero_s)


def book_at_c(*members: Programme) -> PlanBook:
    return PlanBook(tuple(NamedProgramme("c", p) for p in members))


def lamps_of(book: PlanBook, network: Network, seconds: int = 400) -> list[list[str]]:
    plans = [plan_of(named, network, epoch_of_zero_s=0.0) for named in book.programmes]
    return [[plan.state_at(t / 10) for t in range(seconds)] for plan in plans]


@quick
@given(books)
def test_sumo_and_json_bring_back_the_same_book(tmp_path, book):
    for name, text, read in (
        ("b.add.xml", book_to_sumo(book).text, book_from_sumo),
        ("b.json", book_to_json(book, epoch_of_zero_s=0.0).text, book_from_json),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read(tmp_path / name) == book


@quick
@given(programmes, st.booleans())
def test_a_sheet_brings_back_the_same_lamps_and_a_plan_that_begins_with_a_stage_exactly(tmp_path, programme, chinese):
    network, book = crossroads(), book_at_c(programme)
    written = book_to_sheet(book, network, chinese=chinese)
    assert written.left_out == ()
    (tmp_path / "b.csv").write_text(written.text, encoding="utf-8", newline="")
    back = book_from_sheet(tmp_path / "b.csv", network)
    before_s, rows = stage_rows(programme)
    turned = Programme(programme.id, programme.kind, programme.offset_s + before_s, phases_of(rows))
    assert back == book_at_c(turned)
    if not before_s:
        assert back == book


@st.composite
def stage_programmes(draw):
    """Programmes as controllers know them: stages of the signal with standard changes, whole seconds."""
    signal = crossroads().signals[0]
    walkers = {k for k in range(LINKS) if signal.pedestrian[k]}
    states = draw(st.lists(st.sampled_from([s.state for s in signal.stages]), min_size=1, max_size=4))
    steps = []
    for k, state in enumerate(states):
        green_s = float(draw(st.integers(6, 60)))
        steps.append(ProgrammePhase(state, green_s, green_s - 1, green_s + 5))
        steps += standard_change(
            state,
            states[(k + 1) % len(states)],
            walkers,
            yellow_s=float(draw(st.integers(0, 5))),
            all_red_s=float(draw(st.integers(0, 4))),
        )
    number = draw(st.one_of(st.integers(1, 999).map(str), names))
    return Programme(
        number, draw(st.sampled_from(["static", "actuated"])), float(draw(st.integers(0, 300))), tuple(steps)
    )


@quick
@given(st.lists(stage_programmes(), min_size=1, max_size=3, unique_by=lambda p: p.id))
def test_a_control_centre_gives_back_the_same_lamps_unless_it_was_said_what_is_lost(tmp_path, members):
    network, book = crossroads(), book_at_c(*members)
    written = book_to_gat1049(book, network, sent_at=NOON)
    (tmp_path / "b.xml").write_text(written.text, encoding="utf-8")
    back = book_from_gat1049(tmp_path / "b.xml", network)
    assert [n.programme.id for n in back.programmes] == [p.id for p in members]
    assert [n.programme.cycle_s for n in back.programmes] == [p.cycle_s for p in members]
    if not written.left_out:
        assert lamps_of(back, network) == lamps_of(book, network)


def test_shipped_plans_of_stages_with_standard_changes_lose_nothing_on_the_way_round(tmp_path):
    network = crossroads()
    book = book_of_network(network)
    expected = lamps_of(book, network, 900)
    for form in ("csv", "gat1049", "csv-zh", "json", "sumo"):
        file = tmp_path / f"plans{FORMATS[form].ending}"
        written = FORMATS[form].write(book, at_noon(network))
        if form != "gat1049":
            assert written.left_out == ()
        file.write_text(written.text, encoding="utf-8", newline="")
        assert sniff(file) == form.removesuffix("-zh")
        assert format_of_name(file) == form
        back = read_book(file, at_noon(network))
        if not written.left_out:
            assert lamps_of(back, network, 900) == expected


def test_sumo_follows_the_timetable_that_we_write(tmp_path):
    """Two programmes, a switch at once each way: SUMO shows the lamps that the book says, by sumolib's parser too."""
    net = drawn_net("esw")
    network = read_sumo(net)
    day = network.signals[0].programme
    longer = tuple(ProgrammePhase(p.state, p.duration_s + 4, p.duration_s + 4, p.duration_s + 4) for p in day.phases)
    night = Programme("night", "static", 7.0, longer)
    day = Programme(
        "day",
        "static",
        0.0,
        tuple(ProgrammePhase(p.state, p.duration_s, p.duration_s, p.duration_s) for p in day.phases),
    )
    table = Timetable("clock", "day", (Switch(100.0, "night"), Switch(250.0, "day")), (TimedSignal("c"),))
    book = PlanBook((NamedProgramme("c", day), NamedProgramme("c", night)), (table,))
    file = tmp_path / "plans.add.xml"
    file.write_text(book_to_sumo(book).text)
    logics = list(sumolib.xml.parse(str(file), "tlLogic"))
    assert [(tl.programID, float(tl.offset), len(tl.phase)) for tl in logics] == [
        (p.id, p.offset_s, len(p.phases)) for p in (day, night)
    ]
    seen = lamps_in_sumo(net, file, 0, 330)["c"]
    plans = {n.programme.id: plan_of(n, network, epoch_of_zero_s=0.0) for n in book.programmes}
    for t in range(330):
        assert seen[t] == plans["night" if 100 <= t < 250 else "day"].state_at(t), t


def test_json_of_a_running_city_is_read_with_the_epoch_of_its_clock(tmp_path):
    epoch_s, book = 1_772_000_000.0, book_at_c(*simple())
    file = write(tmp_path / "p.json", book_to_json(book, epoch_of_zero_s=epoch_s).text)
    assert read_book(file, at_noon(crossroads(), epoch_s)) == book
    (named,) = read_book(file, at_noon(crossroads())).programmes
    assert named.programme.offset_s == (epoch_s + 3.0) % 20.0


def test_a_message_of_the_older_issue_is_read(tmp_path):
    """Times in the stages, stage numbers in the plan, open groups by phase number; the second stage coordinated."""
    network = crossroads()
    signal = network.signals[0]
    opened = [[k + 1 for k, lamp in enumerate(s.state) if lamp in "Gg"] for s in signal.stages[:2]]
    stages = "".join(
        f"<StageParam><CrossID>c</CrossID><StageNo>{n}</StageNo><StageName/><Attribute>0</Attribute>"
        f"<Green>{20 + n}</Green><RedYellow>0</RedYellow><Yellow>3</Yellow><AllRed>2</AllRed>"
        f"<PhaseNoList>{''.join(f'<PhaseNo>{g}</PhaseNo>' for g in groups)}</PhaseNoList></StageParam>"
        for n, groups in enumerate(opened, 1)
    )
    plan = (
        "<PlanParam><CrossID>c</CrossID><PlanNo>4</PlanNo><CycleLen>53</CycleLen><CoordStageNo>2</CoordStageNo>"
        "<OffSet>30</OffSet><StageNoList><StageNo>1</StageNo><StageNo>2</StageNo></StageNoList></PlanParam>"
    )
    text = f'<Message><Body><Operation order="1" name="Get">{stages}{plan}</Operation></Body></Message>'
    (named,) = read_book(write(tmp_path / "m.xml", text), at_noon(network)).programmes
    made = plan_of(named, network, epoch_of_zero_s=0.0)
    assert (named.programme.id, named.programme.cycle_s, named.programme.offset_s) == ("4", 53.0, 4.0)
    assert [made.state_at(t) for t in (4.0, 30.0)] == [s.state for s in signal.stages[:2]]
    for old, new, said in (
        ("<RedYellow>0", "<RedYellow>1", "RedYellow"),
        ("<CoordStageNo>2", "<CoordStageNo>7", "CoordStageNo"),
        ("<PhaseNo>", "<PhaseNo>9", "signal group 9"),
        ("<AllRed>2</AllRed>", "<AllRed>2</AllRed><AdjustList><Adjust/></AdjustList>", "AdjustList"),
    ):
        assert old in text
        with pytest.raises(InputError, match=said):
            read_book(write(tmp_path / "m.xml", text.replace(old, new, 1)), at_noon(network))


def test_jumps_are_followed_as_sumo_does(tmp_path):
    lines = ['<phase duration="9" state="G"/>', '<phase duration="3" state="y" next="3"/>'] + 2 * [
        '<phase duration="5" state="r"/>'
    ]
    logic = '<additional><tlLogic id="c" type="static" programID="0" offset="0">{}</tlLogic></additional>'
    file = write(tmp_path / "jump.add.xml", logic.format("".join(lines)))
    assert [p.duration_s for p in book_from_sumo(file).programmes[0].programme.phases] == [9.0, 3.0, 5.0]
    write(file, logic.format("".join([*lines[:3], '<phase duration="5" state="r" next="1"/>'])))
    assert [p.duration_s for p in book_from_sumo(file).programmes[0].programme.phases] == [3.0, 5.0]


def test_the_published_schema_is_the_one_of_the_models():
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == plan_schema()


def whole_files(network: Network) -> dict[str, str]:
    book = book_of_network(network)
    table = Timetable("w", "0", (Switch(3600.0, "0"),), (TimedSignal("c"),), 0.0, 86400.0)
    book = PlanBook(book.programmes, (table,))
    return {name: form.write(book, at_noon(network)).text for name, form in FORMATS.items()}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_a_torn_file_is_read_or_refused_but_nothing_else(tmp_path, form, data):
    network = crossroads()
    raw = bytearray(whole_files(network)[form].encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        match data.draw(st.sampled_from(["cut", "drop", "flip", "insert"])):
            case "cut":
                del raw[at:]
            case "drop":
                del raw[at : at + data.draw(st.integers(1, 40))]
            case "flip":
                raw[at] = data.draw(st.integers(0, 255))
            case "insert":
                raw[at:at] = data.draw(
                    st.sampled_from([b"-", b"nan", b"1e999", b"\x00", b"<", b'"', b";", "黄".encode()])
                )
        if not raw:
            break
    file = tmp_path / "torn"
    file.write_bytes(bytes(raw))
    with suppress(InputError):
        assert isinstance(read_book(file, at_noon(network)), PlanBook)
    with suppress(InputError):
        assert isinstance(FORMATS[form].read(file, at_noon(network)), PlanBook)
    with suppress(InputError):
        assert runs_once(file) in (True, False)


@pytest.mark.parametrize(
    ("form", "old", "new", "said"),
    [
        ("sumo", 'duration="', 'duration="-', r"tlLogic 'c' programme .* phase 0"),
        ("sumo", "programID", "program", r"tlLogic 'c'.*'programID'"),
        ("sumo", 'state="', 'state="Z', "state"),
        ("sumo", 'to="0"', "", "wautSwitch 0.*'to'"),
        ("sumo", 'wautID="w"', 'wautID="x"', "no WAUT 'x'"),
        ("sumo", "<phase ", '<phase next="0 x" ', "next: '0 x'"),
        ("sumo", "<phase ", '<phase next="9" ', "phase 0: next: '9'"),
        ("json", '"duration_s"', '"durations"', "plans.0.steps.0.duration_s"),
        ("gat1049", "<CycleLen>", "<CycleLen>1", "CycleLen"),
        ("gat1049", "<Green>", "<Green>x", "stage 1: Green"),
        ("gat1049", "<StageNo>", "<StageNo>9", "StageNo"),
        ("gat1049", "<LampStatus>", "<LampStatus>1", "LampStatus"),
        ("gat1049", "<StartTime>00", "<StartTime>25", "StartTime"),
        ("csv", ",90,", ",91,", "row 3: cycle"),
        ("csv", "c,0,static", "d,0,static", "row 2: junction.*'d'"),
        ("gat1049", "<PlanParam>\n        <CrossID>c", "<PlanParam>\n        <CrossID>d", "PlanParam 'd'"),
        ("csv", "W left", "W right", "row 2: movements"),
        ("csv", "lamps", "lampen", "row 1.*'lamps'"),
    ],
)
def test_a_wrong_file_is_refused_by_file_element_and_field(tmp_path, form, old, new, said):
    text = whole_files(crossroads())[form]
    assert old in text
    file = tmp_path / "wrong.file"
    file.write_text(text.replace(old, new, 1), encoding="utf-8", newline="")
    with pytest.raises(InputError, match=rf"(?s)wrong\.file.*{said}"):
        FORMATS[form].read(file, at_noon(crossroads()))


def test_a_sheet_from_a_chinese_spreadsheet_is_read(tmp_path):
    network, book = crossroads(), book_of_network(crossroads())
    text = book_to_sheet(book, network, chinese=True).text.removeprefix("\ufeff")
    file = tmp_path / "plans.csv"
    file.write_bytes(text.encode("gb18030"))
    assert sniff(file) == "csv"
    assert read_book(file, at_noon(network)) == book_from_sheet(write(tmp_path / "u.csv", text), network)
    cells = csv.reader(book_to_sheet(book_at_c(*simple()), network).text.splitlines())
    semicolons = "\n".join(";".join(row) for row in cells)
    assert read_book(write(tmp_path / "semi.csv", semicolons), at_noon(network)) == book_at_c(*simple())


def simple() -> list[Programme]:
    state = "G" * 4 + "r" * (LINKS - 4)
    return [Programme("1", "static", 3.0, (ProgrammePhase(state, 20.0, 20.0, 20.0),))]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_a_green_that_is_changed_alone_is_caught_by_the_cycle(tmp_path):
    network = crossroads()
    text = book_to_sheet(book_at_c(*simple()), network).text
    with pytest.raises(InputError, match="row 2: cycle: 20 s, but the stages add up to 25 s"):
        read_book(write(tmp_path / "p.csv", text.replace(",20,0,0,20,", ",25,0,0,20,")), at_noon(network))


def test_a_name_that_xml_cannot_carry_is_refused():
    with pytest.raises(InputError, match="XML"):
        book_to_sumo(PlanBook((NamedProgramme("a\x01", simple()[0]),)))
