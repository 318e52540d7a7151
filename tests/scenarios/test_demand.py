"""One day's true demand."""

from __future__ import annotations

import gzip
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from networks.city import CityFolder
from networks.errors import CityError
from scenarios.demand import BUS_LATE_S, JITTER_S, perturb_demand, read_schedule

SEVERAL = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_without_spread_everybody_departs_once_near_the_time_on_file(tiny_city: CityFolder, tmp_path: Path) -> None:
    day = read_schedule(perturb_demand(tiny_city, seed=3, spread=0.0, out_folder=tmp_path), tiny_city.additional)
    assert len(day) == 120 + 75 + 50 + 2
    for number in range(120):
        assert day[f"through.{number}"].depart_s == pytest.approx(number * 7.5, abs=2 * JITTER_S)
    assert 30.0 <= day["bus0"].depart_s <= 30.0 + 4 * BUS_LATE_S
    assert day["bus0"].kind == "bus"
    assert 0 < sum(v.kind == "truck" for v in day.values()) < 60


@SEVERAL
@given(seed=st.integers(0, 2**31), spread=st.floats(0.0, 0.6))
def test_a_day_is_sorted_inside_the_hours_and_repeatable(
    tiny_city: CityFolder, tmp_path: Path, seed: int, spread: float
) -> None:
    (first,) = perturb_demand(tiny_city, seed=seed, spread=spread, out_folder=tmp_path)
    text = first.read_text()
    (again,) = perturb_demand(tiny_city, seed=seed, spread=spread, out_folder=tmp_path)
    assert again.read_text() == text
    departures = [float(v.attrib["depart"]) for v in ET.fromstring(text) if "depart" in v.attrib]
    assert departures == sorted(departures)
    assert min(departures) >= tiny_city.begin_s
    assert max(departures) < tiny_city.end_s
    names = [v.attrib["id"] for v in ET.fromstring(text)]
    assert len(names) == len(set(names))
    assert "bus0" in names


def test_days_differ_and_volumes_scatter_by_origin_around_the_file(tiny_city: CityFolder, tmp_path: Path) -> None:
    through, total = [], []
    for seed in range(60):
        day = read_schedule(perturb_demand(tiny_city, seed=seed, spread=0.3, out_folder=tmp_path))
        through.append(sum(name.startswith("through") for name in day))
        total.append(len(day))
    assert len(set(through)) > 20
    assert sum(through) / 60 == pytest.approx(120, rel=0.12)
    assert sum(total) / 60 == pytest.approx(247, rel=0.08)


def test_drivers_differ_from_their_type_but_keep_class_and_length(tiny_city: CityFolder, tmp_path: Path) -> None:
    (path,) = perturb_demand(tiny_city, seed=1, spread=0.1, out_folder=tmp_path)
    types = {t.attrib["id"]: t.attrib for t in ET.parse(path).iter("vType")}
    variants = [t for name, t in types.items() if name.startswith("lorry~")]
    assert len(variants) > 1
    assert {t["vClass"] for t in variants} == {"truck"}
    assert {t["length"] for t in variants} == {"9"}
    assert len({t["tau"] for t in variants} | {t["sigma"] for t in variants}) > 2
    assert all(float(t["tau"]) >= 1.0 for t in variants)


def test_what_waits_for_its_passengers_is_left_waiting(tiny_city: CityFolder, tmp_path: Path) -> None:
    waiting = tmp_path / "taxis.rou.xml"
    waiting.write_text(
        "<routes><trip id='taxi' depart='triggered' from='a' to='b'/>"
        "<flow id='fleet' begin='triggered' number='3' from='a' to='b'/>"
        "<trip id='early' depart='0:00:05' from='a' to='b'/></routes>"
    )
    city = replace(tiny_city, routes=(waiting,))
    (day,) = perturb_demand(city, seed=1, spread=0.0, out_folder=tmp_path)
    rows = {v.attrib["id"]: v.attrib for v in ET.parse(day).getroot() if "id" in v.attrib}
    assert rows["taxi"]["depart"] == rows["fleet"]["begin"] == "triggered"
    assert read_schedule((waiting,)).keys() == read_schedule((day,)).keys() == {"early"}
    assert read_schedule((waiting,))["early"].depart_s == 5.0


NAMELESS = b"<routes><vehicle depart='3'/></routes>"


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b"<routes><vehicle id='a'", mtime=0),
        gzip.compress(NAMELESS, mtime=0)[:-12],
        gzip.compress(NAMELESS, mtime=0),
        gzip.compress(b"<routes><flow id='f' begin='0' end='9' number='many' from='a' to='b'/></routes>", mtime=0),
        gzip.compress(b"<routes><flow id='f' begin='0' end='9' from='a' to='b'/></routes>", mtime=0),
    ],
)
def test_a_broken_file_is_named(tiny_city: CityFolder, tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.rou.xml.gz"
    broken.write_bytes(content)
    with pytest.raises(CityError, match=r"broken\.rou\.xml\.gz"):
        perturb_demand(replace(tiny_city, routes=(broken,)), seed=1, spread=0.1, out_folder=tmp_path)


def test_types_in_an_additional_file_are_found(bologna: CityFolder, tmp_path: Path) -> None:
    day = perturb_demand(bologna, seed=1, spread=0.0, out_folder=tmp_path)
    before, after = read_schedule(bologna.routes, bologna.additional), read_schedule(day, bologna.additional)
    assert after.keys() == before.keys()
    assert {n: v.kind for n, v in after.items()} == {n: v.kind for n, v in before.items()}
