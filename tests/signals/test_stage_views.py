"""Names of legs, stages of a programme, rings and barriers, and a cycle drawn in text."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.graph import Programme, ProgrammePhase
from networks.readers.sumo import read_sumo
from signals.formats.book import NamedProgramme, PlanBook, Switch, TimedSignal, Timetable, book_of_network
from signals.formats.cycle_text import cycle_text
from signals.formats.legs import legs_of, served_text, uses_of
from signals.formats.nema import MAIN, RINGS, phase_map, ring_barrier, ring_text
from signals.formats.priorities import with_priorities
from signals.formats.proofs import prove_book
from signals.formats.stage_rows import phases_of, stage_rows, standard_change
from tests.signals.drawn_junctions import crossroads, drawn_net, tee


def fixed(state: str, seconds: float) -> ProgrammePhase:
    return ProgrammePhase(state, seconds, seconds, seconds)


def programme(*steps: tuple[str, float], offset_s: float = 0.0) -> Programme:
    return Programme("p", "static", offset_s, tuple(fixed(*step) for step in steps))


def test_legs_are_named_after_the_side_they_come_from():
    network = crossroads()
    signal = network.signals[0]
    legs = legs_of(signal, network)
    assert [leg.name for leg in legs] == ["N", "E", "S", "W"]
    uses = uses_of(signal, network, legs)
    walks = {legs[u.leg].name for u in uses if u.turns == ("walk",)}
    assert walks == {"N", "E", "S", "W"}
    stage = signal.stages[0].state
    text = served_text(stage, uses, legs)
    assert ("N through" in text) != ("W through" in text)
    assert served_text(stage, uses, legs, chinese=True).count("直行") == 2


@pytest.mark.parametrize(
    ("steps", "stages", "before_s"),
    [
        ([("Gr", 20), ("yr", 3), ("rr", 2), ("rG", 20), ("ry", 3)], ["Gr", "rG"], 0),
        ([("rr", 2), ("rG", 20), ("ry", 3), ("Gr", 20), ("yr", 3)], ["rG", "Gr"], 2),
        ([("GGr", 20), ("Gyr", 3), ("Grr", 2), ("GrG", 20), ("Gry", 3)], ["GGr", "GrG"], 0),
        ([("GGr", 20), ("Gyr", 3), ("Grr", 20), ("yrr", 3), ("rrG", 20), ("rry", 3)], ["GGr", "Grr", "rrG"], 0),
        ([("rr", 5), ("yy", 5)], ["rr"], 0),
    ],
)
def test_a_programme_falls_into_stages_and_changes(steps, stages, before_s):
    made = programme(*steps)
    found_s, rows = stage_rows(made)
    assert ([row.green.state for row in rows], found_s) == (stages, before_s)
    assert sum(r.green.duration_s + r.yellow_s + r.all_red_s for r in rows) == made.cycle_s


@given(st.lists(st.tuples(st.text("Ggyr", min_size=3, max_size=3), st.integers(1, 30)), min_size=1, max_size=8))
def test_stages_and_changes_are_the_whole_programme_turned(steps):
    made = programme(*steps)
    before_s, rows = stage_rows(made)
    phases = phases_of(rows)
    assert sorted(map(repr, phases)) == sorted(map(repr, made.phases))
    turn = next(n for n in range(len(steps)) if sum(p.duration_s for p in made.phases[:n]) == before_s)
    assert phases == made.phases[turn:] + made.phases[:turn]


def test_walkers_turn_red_at_once_in_the_standard_change():
    steps = standard_change("GgGr", "rrGG", {1}, yellow_s=3.0, all_red_s=2.0)
    assert steps == (fixed("yrGr", 3.0), fixed("rrGr", 2.0))
    alone = standard_change("GgGr", "GrGG", {1}, yellow_s=3.0, all_red_s=0.0)
    assert alone == (fixed("GyGr", 3.0),)
    on_red = standard_change("Gg", "rs", (), yellow_s=3.0, all_red_s=2.0)
    assert on_red == (fixed("yy", 3.0), fixed("rs", 2.0))


def test_priorities_come_back_as_shipped_stages_show_them():
    signal = crossroads().signals[0]
    for stage in signal.stages:
        opened = [k for k, lamp in enumerate(stage.state) if lamp in "Gg"]
        assert with_priorities(signal, opened) == stage.state
    assert with_priorities(signal, []) == "r" * signal.link_count


def test_phases_of_a_crossroads_are_numbered_as_the_manual_does():
    network = crossroads()
    phases = phase_map(network.signals[0], network)
    assert phases.names == {
        1: "E left",
        2: "W through",
        3: "S left",
        4: "N through",
        5: "W left",
        6: "E through",
        7: "N left",
        8: "S through",
    }
    t = phase_map(tee().signals[0], tee())
    assert t.names == {1: "E left", 2: "W through", 6: "E through", 8: "S turns"}


def letters(network, **lamps: str) -> str:
    """A state from movements: letters(n, W_through="G", ...); everything else red."""
    phases = phase_map(network.signals[0], network)
    state = ["r"] * network.signals[0].link_count
    for name, lamp in lamps.items():
        for phase, links in phases.links.items():
            if phases.names[phase] == name.replace("_", " "):
                for k in links:
                    state[k] = lamp
    return "".join(state)


def eight_phase_plan(network) -> Programme:
    """Leading lefts, the eastern one ending earlier: the classic dual ring."""
    lefts = letters(network, E_left="G", W_left="G")
    steps = [
        (lefts, 10),
        (letters(network, E_left="y", W_left="G"), 3),
        (letters(network, W_left="G", W_through="G"), 5),
        (letters(network, W_left="y", W_through="G"), 3),
        (letters(network, W_through="G", E_through="G"), 20),
        (letters(network, W_through="y", E_through="y"), 3),
        (letters(network), 2),
        (letters(network, N_through="G", S_through="G", N_left="g", S_left="g"), 30),
        (letters(network, N_through="y", S_through="y", N_left="y", S_left="y"), 3),
        (letters(network), 2),
    ]
    return programme(*steps)


def test_a_dual_ring_plan_has_its_splits():
    network = crossroads()
    phases = phase_map(network.signals[0], network)
    made = eight_phase_plan(network)
    view = ring_barrier(made, phases)
    assert view.why_not == ""
    assert [[(s.phase, s.split_s) for s in ring] for ring in view.rings] == [
        [(1, 13.0), (2, 33.0), (4, 35.0)],
        [(5, 21.0), (6, 25.0), (8, 35.0)],
    ]
    assert [(s.green_s, s.yellow_s, s.red_s) for s in view.rings[0]] == [(10, 3, 0), (28, 3, 2), (30, 3, 2)]
    text = ring_text(view, phases)
    assert text.count("ring") == 2
    assert "1 E left 13" in text


@settings(max_examples=30)
@given(st.integers(0, 9), st.integers(0, 200))
def test_the_view_does_not_depend_on_where_a_programme_begins(turn, offset_s):
    network = crossroads()
    phases = phase_map(network.signals[0], network)
    made = eight_phase_plan(network)
    turned = replace(made, phases=made.phases[turn:] + made.phases[:turn], offset_s=float(offset_s))
    split = [{(s.phase, s.split_s, s.green_s) for s in ring} for ring in ring_barrier(turned, phases).rings]
    assert split == [{(s.phase, s.split_s, s.green_s) for s in ring} for ring in ring_barrier(made, phases).rings]
    for ring in ring_barrier(turned, phases).rings:
        assert {s.phase for s in ring} <= set(RINGS[0]) or {s.phase for s in ring} <= set(RINGS[1])
    main_s = [sum(s.split_s for s in ring if s.phase in MAIN) for ring in ring_barrier(turned, phases).rings]
    assert main_s[0] == main_s[1]


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([{"W_through": "G", "S_through": "G"}, {"N_through": "G"}], "across the barrier"),
        ([{"W_through": "G", "E_left": "G"}, {"S_through": "G"}], "of one ring are green together"),
        ([{"W_through": "G"}, {"N_through": "G"}, {"W_through": "G"}, {"S_through": "G"}], "served 2 times"),
        (
            [{"W_through": "G"}, {"N_through": "G"}, {"E_through": "G"}, {"S_through": "G"}],
            "alternate more than once",
        ),
        ([{"W_through": "G"}], "no barrier"),
    ],
)
def test_a_plan_without_rings_says_why(steps, said):
    network = crossroads()
    phases = phase_map(network.signals[0], network)
    made = programme(*((letters(network, **step), 20) for step in steps), (letters(network), 5))
    view = ring_barrier(made, phases)
    assert said in view.why_not
    assert said in ring_text(view, phases)


def test_a_junction_without_phases_says_why():
    network = read_sumo(drawn_net("en"))
    view = phase_map(network.signals[0], network)
    assert "2 legs" in view.why_not
    assert "2 legs" in ring_barrier(network.signals[0].programme, view).why_not


def test_a_cycle_is_drawn_second_by_second():
    network = tee()
    phases = phase_map(network.signals[0], network)
    made = network.signals[0].programme
    lines = cycle_text(made, phases.uses, phases.legs).splitlines()
    row = next(line for line in lines if line.startswith("E through"))
    drawn = row.removeprefix("E through").split()[0]
    link = phases.links[6][0]
    expected = "".join({"G": "█", "y": "/", "r": "·"}[p.state[link]] * int(p.duration_s) for p in made.phases)
    assert drawn == expected


def test_shipped_plans_are_proven_and_an_unsafe_one_is_named():
    network = tee()
    assert [p.violations for p in prove_book(book_of_network(network), network)] == [()]
    made = network.signals[0].programme
    cut = replace(made, phases=tuple(p for p in made.phases if "y" not in p.state))
    (proof,) = prove_book(PlanBook((NamedProgramme("c", cut),)), network)
    assert {v.rule for v in proof.violations} >= {"yellow"}


def test_a_switch_of_programmes_is_judged_at_its_moment():
    """At second 0 both programmes begin; shifted by half a cycle the streets change without yellow."""
    network = tee()
    made = network.signals[0].programme
    same, other = replace(made, id="same"), replace(made, id="other", offset_s=made.cycle_s / 2)
    for after, safe in ((same, True), (other, False)):
        table = Timetable("w", made.id, (Switch(10 * made.cycle_s + 10, after.id),), (TimedSignal("c"),))
        book = PlanBook((NamedProgramme("c", made), NamedProgramme("c", after)), (table,))
        proof = prove_book(book, network)[-1]
        assert proof.what.startswith("switch")
        assert not proof.note
        assert bool(proof.violations) != safe
    off = PlanBook(
        (NamedProgramme("c", made), NamedProgramme("c", replace(made, id="off", phases=()))),
        (replace(table, switches=(Switch(5.0, "off"),)),),
    )
    assert [bool(p.note) for p in prove_book(off, network)] == [False, True, True]
