"""SPAT messages tell what the plan will show, in the shapes that their codecs take."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.errors import InputError
from signals.formats import spat_csae53, spat_j2735
from signals.formats.spat_times import Intersection, lamps_ahead, shipped_groups
from signals.plan import LampStep, SignalPlan
from tests.signals.drawn_junctions import crossroads

NOON_S = datetime(2026, 3, 2, 12, 0, tzinfo=UTC).timestamp()

steps = st.lists(
    st.builds(LampStep, st.text("Ggyr", min_size=3, max_size=3), st.integers(1, 60).map(float)),
    min_size=1,
    max_size=6,
).map(tuple)
plans = st.builds(
    SignalPlan,
    st.just(0),
    st.just("c"),
    steps,
    st.just(NOON_S),
    st.just(NOON_S + 900.0),
    st.booleans(),
    st.integers(-100, 100).map(lambda t: NOON_S + t),
)
moments = st.integers(0, 300).map(lambda t: NOON_S + t / 2)


def naive_change_s(plan: SignalPlan, link: int, now_s: float) -> float:
    """Half-second walk until the link shows another letter; inf where it never does."""
    now = plan.state_at(now_s)[link]
    for halves in range(1, 1600):
        if plan.state_at(now_s + halves / 2)[link] != now:
            return now_s + halves / 2
    return math.inf


@settings(max_examples=60)
@given(plans, moments, st.integers(0, 2))
def test_the_present_lamp_and_its_end_are_those_of_the_plan(plan, now_s, link):
    ahead = lamps_ahead(plan, [link], now_s)
    assert ahead[0].lamp == plan.state_at(now_s)[link]
    assert ahead[0].start_s <= now_s
    assert ahead[0].end_s == naive_change_s(plan, link, now_s)
    for shown in ahead[1:]:
        assert shown.lamp == plan.state_at(shown.start_s)[link]


@settings(max_examples=60)
@given(plans, moments, st.one_of(st.just(math.inf), moments))
def test_both_messages_tell_the_lamps_of_now_and_fit_their_ranges(plan, now_s, sure_until_s):
    intersection = Intersection(plan, (1, 2, 0), 7, 3)
    told = plan.state_at(now_s)[:2]
    chinese = spat_csae53.to_spat([intersection], now_s=now_s, count=200, sure_until_s=sure_until_s)
    lamps = spat_csae53.lamps_of_spat(chinese)
    assert lamps == spat_csae53.lamps_of_spat(json.loads(json.dumps(spat_csae53.as_json(chinese))))
    assert spat_csae53.state_of_phases(lamps[3, 7], (1, 2)) == told
    american = spat_j2735.to_spat([intersection], now_s=now_s, revision=5, sure_until_s=sure_until_s)
    assert "".join(spat_j2735.lamps_of_spat(american)[3, 7].values()) == told
    for times in _times(chinese) + _times(american):
        assert all(isinstance(t, int) and 0 <= t <= 36001 for t in times.values())
    for phase in chinese["intersections"][0]["phases"]:
        for state in phase["phaseStates"]:
            counting = state["timing"][1]
            assert counting["startTime"] <= counting["likelyEndTime"]
            assert counting.get("minEndTime", 0) <= counting["likelyEndTime"]


def _times(value) -> list[dict[str, int]]:
    if isinstance(value, dict):
        found = [_numbers(value["timing"])] if "timing" in value else []
        return found + [t for inner in value.values() for t in _times(inner)]
    return [t for inner in value for t in _times(inner)] if isinstance(value, list) else []


def _numbers(timing) -> dict[str, int]:
    return timing[1] if isinstance(timing, tuple) else timing


def test_a_fixed_plan_counts_down_in_tenths_of_a_second():
    plan = SignalPlan(
        0, "c", (LampStep("G", 30.0), LampStep("y", 3.0), LampStep("r", 27.0)), NOON_S, math.inf, True, NOON_S
    )
    at_s = NOON_S + 10.5
    message = spat_csae53.to_spat([Intersection(plan, (4,), 9)], now_s=at_s, count=1)
    (phase,) = message["intersections"][0]["phases"]
    assert message["intersections"][0]["status"] == (b"\x04\x00", 16)
    assert message["timeStamp"] == 10500
    assert [
        (s["light"], s["timing"][1]["startTime"], s["timing"][1]["likelyEndTime"]) for s in phase["phaseStates"]
    ] == [
        ("protected-green", 0, 195),
        ("yellow", 195, 225),
        ("red", 225, 495),
    ]
    assert phase["phaseStates"][0]["timing"][1]["nextStartTime"] == 495
    assert phase["phaseStates"][0]["timing"][1]["nextDuration"] == 300
    assert phase["phaseStates"][0]["timing"][1]["timeConfidence"] == 200
    (state,) = spat_j2735.to_spat([Intersection(plan, (4,), 9)], now_s=at_s, revision=1)["intersections"][0]["states"]
    present, yellow, red, _ = state["state-time-speed"]
    assert present == {
        "eventState": "protected-Movement-Allowed",
        "timing": {"minEndTime": 300, "maxEndTime": 300, "likelyTime": 300},
    }
    assert yellow["eventState"] == "protected-clearance"
    assert red["timing"]["nextTime"] == 600


def test_what_may_be_replaced_is_not_promised():
    plan = SignalPlan(0, "c", (LampStep("G", 30.0), LampStep("r", 9.0)), NOON_S, NOON_S + 60)
    message = spat_csae53.to_spat([Intersection(plan, (1,), 9)], now_s=NOON_S, count=1, sure_until_s=NOON_S + 5)
    green, red = (s["timing"][1] for s in message["intersections"][0]["phases"][0]["phaseStates"])
    assert (green["minEndTime"], green["likelyEndTime"]) == (50, 300)
    assert "maxEndTime" not in green
    assert red["likelyEndTime"] == spat_csae53.UNKNOWN
    assert message["intersections"][0]["status"] == (b"\x02\x00", 16)


def test_of_lamps_in_one_group_the_closed_one_is_told():
    plan = SignalPlan(0, "c", (LampStep("Gr", 10.0), LampStep("Gg", 10.0)), NOON_S, NOON_S + 60)
    assert [s.lamp for s in lamps_ahead(plan, [0, 1], NOON_S)] == ["r", "g"]


def test_groups_of_a_junction_follow_its_shipped_phases():
    signal = crossroads().signals[0]
    groups = shipped_groups(signal)
    assert len(groups) == signal.link_count
    for stage in signal.stages:
        assert len({(g, stage.state[k]) for k, g in enumerate(groups)}) == len(set(groups))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"groups": (1,)}, "1 signal groups given for 2"),
        ({"groups": (1, 300)}, "signal group 300"),
        ({"groups": (0, 0)}, "0 phases"),
    ],
)
def test_groups_that_do_not_fit_are_refused(change, said):
    plan = SignalPlan(0, "c", (LampStep("Gr", 10.0),), NOON_S, NOON_S + 60)
    with pytest.raises(InputError, match=said):
        spat_csae53.to_spat([replace(Intersection(plan, (1, 2), 9), **change)], now_s=NOON_S, count=1)
    with pytest.raises(InputError, match="begins"):
        lamps_ahead(plan, [0], NOON_S - 5)


@pytest.mark.parametrize("reader", [spat_csae53.lamps_of_spat, spat_j2735.lamps_of_spat])
@pytest.mark.parametrize(
    "message", [{}, {"intersections": [{}]}, {"intersections": [{"intersectionId": {}, "id": {}}]}]
)
def test_torn_messages_are_refused(reader, message):
    with pytest.raises(InputError, match=r"lacks|no list|no whole number"):
        reader(message)


@settings(max_examples=200)
@given(st.data())
def test_a_message_with_anything_in_it_is_read_or_refused(data):
    """Each part of a good message in turn replaced by something else."""
    plan = SignalPlan(0, "c", (LampStep("Gr", 10.0), LampStep("yr", 3.0)), NOON_S, NOON_S + 60)
    intersection = [Intersection(plan, (1, 2), 9, 3)]
    for reader, message in (
        (spat_csae53.lamps_of_spat, spat_csae53.as_json(spat_csae53.to_spat(intersection, now_s=NOON_S, count=1))),
        (spat_j2735.lamps_of_spat, spat_csae53.as_json(spat_j2735.to_spat(intersection, now_s=NOON_S, revision=1))),
    ):
        parent, key = message, data.draw(st.sampled_from(sorted(message)))
        while isinstance(parent[key], dict | list) and parent[key] and data.draw(st.integers(0, 4)):
            parent = parent[key]
            key = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else range(len(parent))))
        parent[key] = data.draw(st.sampled_from([None, 3, "x", [], {}, [1], [[]], {"id": []}, 1.5, True]))
        with suppress(InputError):
            reader(message)


def check_against(kind: str, value, types: dict[str, dict]) -> None:
    """Hold a codec's value against the facts of the message modules."""
    fact = types.get(kind, {"type": kind})
    match fact["type"]:
        case "SEQUENCE":
            members = {m["name"]: m for m in fact["members"] if m}
            assert set(value) <= set(members), kind
            assert {n for n, m in members.items() if not m.get("optional")} <= set(value), kind
            for name, inner in value.items():
                check_against(members[name]["type"], inner, types)
        case "SEQUENCE OF":
            low, high = fact["size"][0]
            assert low <= len(value) <= high
            for inner in value:
                check_against(fact["element"]["type"], inner, types)
        case "CHOICE":
            chosen = {m["name"]: m["type"] for m in fact["members"] if m}[value[0]]
            check_against(chosen, value[1], types)
        case "INTEGER":
            low, high = fact["restricted-to"][0]
            assert low <= value <= high
        case "ENUMERATED":
            assert value in [v[0] for v in fact["values"] if v]
        case "BIT STRING":
            assert (len(value[0]) * 8, value[1]) == (fact["size"][0], fact["size"][0])
        case "IA5String":
            assert isinstance(value, str)
        case other:
            raise AssertionError(f"{kind}: {other}")


def test_the_chinese_message_fits_the_published_modules_and_a_real_one_is_understood(shared_data):
    folder = shared_data / "feeds" / "v2x_cn"
    modules = json.loads((folder / "message_schema_facts.json").read_text())
    types = {name: fact for module in modules.values() for name, fact in module["types"].items()}
    plan = SignalPlan(
        0, "c", (LampStep("Ggr", 30.0), LampStep("yyr", 3.0), LampStep("rrG", 9.0)), NOON_S, NOON_S + 600
    )
    for cyclic in (plan, replace(plan, repeats=True)):
        for sure_until_s in (math.inf, NOON_S + 4):
            message = spat_csae53.to_spat(
                [Intersection(cyclic, (1, 2, 3), 9, 255)], now_s=NOON_S, count=3, sure_until_s=sure_until_s
            )
            check_against("SPAT", message, types)
    real = next(f for f in json.loads((folder / "frames.json").read_text()) if f["kind"] == "SPAT")
    lamps = spat_csae53.lamps_of_spat(real["messages"][0]["value"])
    assert lamps[255, 9][33] == "g"
    assert lamps[255, 9][41] == "r"
