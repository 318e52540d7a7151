"""Plans survive the way out and back, and SUMO runs what we write."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from networks.errors import InputError
from networks.readers.sumo import read_sumo
from signals.fixed import fixed_plan
from signals.formats import PlansDocument, from_json, from_sumo, to_json, to_order, to_sumo
from signals.lamps import LampRecord
from signals.plan import LampStep, SignalPlan
from signals.safety import approve
from tests.signals.test_safety import CROSS

EPOCH_S = 1_772_000_000.0

steps = st.lists(
    st.builds(LampStep, st.text("GgyrusoO", min_size=3, max_size=3), st.integers(1, 90).map(float)),
    min_size=1,
    max_size=8,
).map(tuple)
cyclic_plans = st.builds(
    SignalPlan,
    st.just(1),
    st.just("B"),
    steps,
    st.just(EPOCH_S),
    st.just(math.inf),
    st.just(True),
    st.integers(-500, 500).map(lambda s: EPOCH_S + s),
)


@given(st.lists(cyclic_plans, max_size=3), st.integers(1, 900))
def test_json_brings_back_the_same_plans(plans, length_s):
    plans = [replace(p, repeats=False, valid_until_s=EPOCH_S + length_s, reason="为什么") for p in plans] + plans
    assert list(from_json(to_json(plans), {"B": 1})) == plans


@settings(max_examples=50)
@given(cyclic_plans)
def test_sumo_files_bring_back_the_same_lamps_at_every_second(tmp_path_factory, plan):
    file = tmp_path_factory.mktemp("tls") / "tls.add.xml"
    file.write_text(to_sumo([plan], epoch_of_zero_s=EPOCH_S - 28800))
    (back,) = from_sumo(file, {"B": 1}, epoch_of_zero_s=EPOCH_S - 28800)
    assert back.signal_id == "B"
    for second in range(int(2 * plan.cycle_s)):
        assert back.state_at(EPOCH_S + second) == plan.state_at(EPOCH_S + second)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda d: d["plans"][0].pop("steps"), "steps"),
        (lambda d: d["plans"][0]["steps"][0].update(state="GZ"), "state"),
        (lambda d: d["plans"][0]["steps"][0].update(duration_s=0), "duration_s"),
        (lambda d: d["plans"][0].update(colour="red"), "colour"),
        (lambda d: d["plans"][0].update(signal="Z"), "'Z'"),
        (lambda d: d.update(format="other"), "format"),
    ],
)
def test_a_wrong_document_is_refused_by_the_name_of_the_field(change, field):
    document = json.loads(to_json([SignalPlan(0, "A", (LampStep("Gr", 9.0),), 5.0, 50.0)]))
    change(document)
    with pytest.raises(InputError, match=field):
        from_json(json.dumps(document), {"A": 0})


@pytest.mark.parametrize(
    "text", ["", "<add", '<add><tlLogic id="A"/></add>', '<add><tlLogic id="A"><phase state="G"/></tlLogic></add>']
)
def test_a_wrong_sumo_file_is_refused(tmp_path, text):
    (tmp_path / "x.add.xml").write_text(text)
    with pytest.raises(InputError, match=r"x\.add\.xml"):
        from_sumo(tmp_path / "x.add.xml", {"A": 0}, epoch_of_zero_s=0.0)


def test_a_rolling_plan_has_no_tllogic():
    with pytest.raises(InputError, match="repeats"):
        to_sumo([SignalPlan(0, "A", (LampStep("Gr", 9.0),), 5.0, 50.0)], epoch_of_zero_s=0.0)


def test_the_schema_says_what_a_plan_needs():
    schema = PlansDocument.model_json_schema()
    assert set(schema["$defs"]["PlanDocument"]["required"]) >= {"signal", "steps", "valid_from_s", "valid_until_s"}


def test_an_order_carries_the_same_lamps_as_its_plan():
    cycle = (("GgrG", 10), ("yyry", 3), ("rrrr", 4), ("rrGr", 10), ("rryr", 3), ("rrrr", 1))
    lamps = tuple(LampStep(s, float(d)) for s, d in cycle)
    plan = SignalPlan(0, "S", lamps, EPOCH_S, EPOCH_S + 600, repeats=True, offset_s=EPOCH_S - 5)
    order = to_order(approve(plan, CROSS, LampRecord.start("GgrG", EPOCH_S), now_s=EPOCH_S, version=3))
    carried = replace(
        plan, steps=tuple(LampStep(s.state, s.duration_s) for s in order.steps), offset_s=order.valid_from
    )
    assert all(carried.state_at(EPOCH_S + s) == plan.state_at(EPOCH_S + s) for s in range(100))


LISTEN = """
import json, sys, libsumo
net, add, begin, seconds = sys.argv[1:]
libsumo.start(["sumo", "-n", net, "-a", add, "-b", begin, "--no-step-log", "--no-warnings"])
seen = {i: [] for i in libsumo.trafficlight.getIDList()}
for _ in range(int(seconds)):
    libsumo.simulationStep()
    for i in seen:
        seen[i].append(libsumo.trafficlight.getRedYellowGreenState(i))
print(json.dumps(seen))
"""


def lamps_in_sumo(net, add, begin_s, seconds):
    """The lamps that SUMO itself shows during each second from begin_s on."""
    command = [sys.executable, "-c", LISTEN, str(net), str(add), str(begin_s), str(seconds)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def test_sumo_shows_what_fixed_plans_and_our_files_say(shared_data, tmp_path):
    """Shipped programmes with shifted offsets: written, loaded and run by SUMO from a begin that is no multiple."""
    net = shared_data / "resco/cologne8/cologne8.net.xml.gz"
    network, begin_s = read_sumo(net), 25203
    zero_s = EPOCH_S - begin_s
    shifted = [
        replace(plan, offset_s=plan.offset_s + 7 * i - 20)
        for i, signal in enumerate(network.signals)
        if (plan := fixed_plan(signal, index=i, epoch_of_zero_s=zero_s))
    ]
    file = tmp_path / "plans.add.xml"
    file.write_text(to_sumo(shifted, epoch_of_zero_s=zero_s))
    seen = lamps_in_sumo(net, file, begin_s, 200)
    again = read_sumo(net, [file])
    for i, signal in enumerate(again.signals):
        plan = fixed_plan(signal, index=i, epoch_of_zero_s=zero_s)
        expected = [plan.state_at(EPOCH_S + s) for s in range(200)]
        assert seen[signal.id] == expected == [shifted[i].state_at(EPOCH_S + s) for s in range(200)]
