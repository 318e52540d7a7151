"""Every vehicle counts once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios.measures import ARRIVED, NEVER_INSERTED, RUNNING, Scheduled, Trip, read_tripinfo, summarise

TRIPINFO = """<tripinfos>
<tripinfo id="a" depart="5" departDelay="5" arrival="65" duration="60" timeLoss="20"/>
<tripinfo id="b" depart="10" departDelay="0" arrival="-1" duration="90" timeLoss="70"/>
<tripinfo id="stranger" depart="10" departDelay="0" arrival="20" duration="10" timeLoss="7"/>
</tripinfos>"""


def test_delay_counts_arrived_driving_and_never_inserted(tmp_path: Path) -> None:
    path = tmp_path / "trips.xml"
    path.write_text(TRIPINFO)
    demand = {
        "a": Scheduled(0.0, "car"),
        "b": Scheduled(10.0, "bus"),
        "c": Scheduled(40.0, "car"),
        "tomorrow": Scheduled(100.0, "car"),
    }
    summary = summarise(read_tripinfo(path), demand, begin_s=0.0, end_s=100.0)
    assert (summary.vehicles, summary.arrived, summary.running, summary.never_inserted) == (3, 1, 1, 1)
    assert summary.mean_delay_s == pytest.approx((25.0 + 70.0 + 60.0) / 3)
    assert summary.mean_insertion_delay_s == pytest.approx((5.0 + 0.0 + 60.0) / 3)
    assert summary.class_delay_s == {"bus": 70.0, "car": pytest.approx(42.5)}


TRIPS = st.lists(
    st.builds(
        Trip,
        st.sampled_from("abcdefgh"),
        st.sampled_from([ARRIVED, RUNNING, NEVER_INSERTED]),
        st.floats(0, 1e3),
        st.floats(0, 1e3),
    )
)


@given(TRIPS)
def test_nobody_is_lost_or_counted_twice(trips: list[Trip]) -> None:
    demand = {name: Scheduled(float(i), "car") for i, name in enumerate("abcde")}
    summary = summarise(trips, demand, begin_s=0.0, end_s=10.0)
    assert summary.vehicles == summary.arrived + summary.running + summary.never_inserted == 5
    assert summary.mean_delay_s == pytest.approx(summary.mean_time_loss_s + summary.mean_insertion_delay_s)
