"""The loop as a service: by the clock, over a line, through kills, and silent where it shall only watch."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from benchmarks.service import Heard, LineStreet, broker, compare, soon, start_service, write_config
from networks import day_one, line
from networks.city import CityFolder
from networks.errors import ProcessError
from networks.messages import PlanOrder, SignalReport, is_signed, unpack_order
from scenarios.street_terms import StreetOptions
from twin.app import CityModel, build_city, on_day
from twin.broadcast import Sending
from twin.broker import find_tool
from twin.loop import City, CycleReport, Pace
from twin.mqtt import Delivery
from twin.privacy import Pseudonyms
from twin.publisher import LinePublisher
from twin.service import Log, Service, Teller
from twin.service_config import Telling

KEY = b"sixteen bytes or so"
PATIENCE_S = 180.0


@dataclass
class Line:
    """A line whose other end is a list."""

    sent: list[Sending] = field(default_factory=list)
    coming: list[Delivery] = field(default_factory=list)
    connected: bool = True
    refusal: str = ""

    def take(self) -> list[Delivery]:
        taken, self.coming = self.coming, []
        return taken

    def acknowledge(self, deliveries: Sequence[Delivery]) -> None: ...

    def send(self, sendings: Sequence[Sending]) -> int:
        self.sent += sendings
        return len(sendings)


class Clock:
    """Time that passes when somebody waits, and while cycles are worked out."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self.cycle_takes_s = 0.1

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> bool:
        self.now_s += seconds
        return False


@dataclass
class Live:
    """A service over a street that is asked for each cycle's messages."""

    city: City
    line: Line
    clock: Clock
    make: Callable[..., Service]
    reports: list[CycleReport] = field(default_factory=list)

    def run(self, seconds: float, **parts: object) -> Service:
        service = self.make(watch=self._watch, **parts)
        service.run(self.clock, until_s=self.clock.now_s + seconds)  # type: ignore[arg-type]
        return service

    def _watch(self, city: City, report: CycleReport) -> None:
        self.reports.append(report)
        self.clock.now_s += self.clock.cycle_takes_s


@pytest.fixture
def live(model: CityModel, tmp_path: Path) -> Iterator[Callable[..., Live]]:
    built: list[City] = []

    def make(*, shadow: bool = False, from_s: float = model.folder.epoch_s, mirrored: bool = False) -> Live:
        ends = Line()
        city = build_city(
            model,
            pace=Pace(cycle_s=5.0, deadline_s=60.0),
            store=None,
            mirrored=mirrored,
            pseudonyms=Pseudonyms(b"x"),
            from_s=from_s,
            publisher=LinePublisher(ends.send, KEY),
            shadow=shadow,
        )
        built.append(city)
        clock = Clock(from_s)
        day = replace(model, folder=on_day(model.folder, from_s))
        return Live(city, ends, clock, lambda **parts: Service(
            day, city, ends, rebuild=lambda folder: replace(model, folder=folder), clock=clock, **parts  # type: ignore[arg-type]
        ))  # fmt: skip

    yield make
    for city in built:
        city.close()


def lamps(model: CityModel, at_s: float) -> list[Delivery]:
    """Every controller says that it shows its first stage."""
    deliveries = []
    for index, one in enumerate(model.network.signals):
        report = SignalReport(measured_at=at_s, junction=one.id, state=one.stages[0].state, plan_version=-1)
        head = f'{{"counter":{round(at_s)},"sent_at":{at_s}}}\n'
        payload = head.encode() + report.model_dump_json().encode()
        deliveries.append(Delivery(line.up_topic("signals", one.id), payload, at_s, index, 0))
    return deliveries


def plans(sent: Sequence[Sending]) -> list[PlanOrder]:
    orders = [unpack_order(s.payload) for s in sent if s.topic.startswith(line.DOWN)]
    return [order for order in orders if isinstance(order, PlanOrder)]


def test_cycles_follow_the_clock_and_those_that_are_missed_are_said(live, model: CityModel) -> None:
    service = live()
    service.clock.cycle_takes_s = 7.0
    done = service.run(60.0)
    times = [report.now_s - model.folder.epoch_s for report in service.reports]
    assert all(t % 5.0 == 0.0 for t in times)
    assert times == sorted(set(times))
    assert done.tally.skipped + done.tally.cycles == round(times[-1] / 5.0)
    assert any("left out" in note for report in service.reports for note in report.notes)


def test_a_clock_that_is_set_back_ends_the_service_by_name(live) -> None:
    service = live()
    service.run(20.0)
    service.clock.cycle_takes_s = -600.0
    with pytest.raises(ProcessError, match="set back by 600 s"):
        service.run(60.0)


def test_plans_that_leave_are_proven_signed_and_addressed(live, model: CityModel) -> None:
    service = live()
    service.line.coming = lamps(model, model.folder.epoch_s + 4.9)
    service.run(6.0)
    orders = plans(service.line.sent)
    assert {order.junction for order in orders} == {s.id for s in model.network.signals}
    assert all(is_signed(order, KEY) for order in orders)
    assert [s.topic for s in service.line.sent if s.topic != line.GUIDANCE] == [
        line.plan_topic(order.junction) for order in orders
    ]


def test_in_shadow_nothing_leaves(live, model: CityModel) -> None:
    service = live(shadow=True)
    service.line.coming = lamps(model, model.folder.epoch_s + 4.9)
    done = service.run(6.0, teller=Teller(model.network, Telling(units={}), service.line.send))
    assert service.reports[-1].decision.approved
    assert service.line.sent == []
    assert done.tally.plans == 0


def test_who_begins_anew_is_not_taken_for_older_than_before(live, model: CityModel) -> None:
    versions = []
    for from_s in (model.folder.epoch_s, model.folder.epoch_s + 5.0):
        service = live(from_s=from_s)
        service.line.coming = lamps(model, from_s + 4.9)
        service.run(6.0)
        versions.append([order.plan_version for order in plans(service.line.sent)])
    assert versions[0]
    assert max(versions[0]) < min(versions[1])


def test_roadside_units_hear_of_lamps_only_what_is_shown(live, model: CityModel) -> None:
    """The first cycle's plans hold at the second: what the controller shows by then is told, for others nothing."""
    service = live()
    shown, other = (s.id for s in model.network.signals[:2])
    placed = replace(model.network, projection="+proj=utm +zone=50 +datum=WGS84", net_offset_m=(-458e3, -4405e3))
    teller = Teller(placed, Telling(units={shown: "unit0001", other: "unit0002"}), service.line.send)
    epoch_s = model.folder.epoch_s
    service.line.coming = lamps(model, epoch_s + 4.9)
    service.run(6.0, teller=teller)
    assert not [s for s in service.line.sent if "SPAT" in s.topic]
    assert [s.topic for s in service.line.sent if "MAP" in s.topic] == [
        day_one.down_topic("MAP", unit) for unit in ("unit0001", "unit0002")
    ]
    service.line.sent.clear()
    told = lamps(model, epoch_s + 9.5)
    lie = SignalReport(
        measured_at=epoch_s + 9.5, junction=other, state="r" * model.network.signals[1].link_count, plan_version=-1
    )
    head = told[1].payload.partition(b"\n")[0]
    service.line.coming = [told[0], told[1]._replace(payload=head + b"\n" + lie.model_dump_json().encode())]
    service.run(5.0, teller=teller)
    assert [s.topic for s in service.line.sent if "SPAT" in s.topic] == [day_one.down_topic("SPAT", "unit0001")]


def test_a_new_day_of_the_demand_gets_a_new_mirror_and_new_forecasters(live, model: CityModel) -> None:
    late_s = model.folder.epoch_s + 86_390.0
    service = live(from_s=late_s, mirrored=True)
    before, forecaster = service.city.mirror, service.city.forecaster
    service.run(30.0)
    assert service.city.mirror is not before
    assert service.city.mirror.alive
    assert not before.alive
    assert service.city.forecaster is not forecaster
    said = [note for report in service.reports for note in report.notes]
    assert any("new mirror" in note for note in said)


def test_a_full_disk_ends_the_recording_and_nothing_else(live, model: CityModel) -> None:
    class Full:
        def write(self, frames: object) -> None:
            raise OSError(28, "No space left on device")

    service = live()
    service.line.coming = lamps(model, model.folder.epoch_s + 4.9)
    service.run(11.0, log=Log(Full()))  # type: ignore[arg-type]
    assert service.city.inbox.tallies["signals"].frames_accepted == len(model.network.signals)
    assert any("No space left" in note for note in service.reports[-1].notes) or any(
        "No space left" in note for note in service.reports[0].notes
    )


@pytest.mark.skipif(find_tool("mosquitto") is None, reason="needs Mosquitto (Debian: mosquitto)")
def test_a_street_on_the_line_is_controlled_again_after_a_kill(square: CityFolder, tmp_path: Path) -> None:
    """In real time: plans are accepted, the service dies, comes back, and nothing said meanwhile is lost."""
    city = soon(square, tmp_path / "city")
    options = StreetOptions(seed=3, duration_s=square.end_s, coverage=square.coverage)
    with broker(tmp_path / "broker") as own:
        config = write_config(tmp_path / "service", str(tmp_path / "city"), own.port)
        with LineStreet(city, options, own.port) as street:
            service = start_service(config, "--duration", "600")
            try:
                until_accepted(street, 1)
                street.heard = Heard()
                until_accepted(street, 20)
                service.kill()
                service.wait()
                for _ in range(15):  # longer than controllers wait
                    street.step()
                accepted = street.heard.accepted
                service = start_service(config)
                until_accepted(street, accepted + 20)
                heard = street.heard
                time.sleep(5.0)
            finally:
                service.send_signal(signal.SIGTERM)
                code = service.wait(PATIENCE_S)
    assert code == 0, (config.parent / "service.log").read_text()
    sent, lost, _ = compare(heard.sent_s, config.parent / "log")
    assert sent > 100
    assert lost == 0
    assert "stale" not in heard.refused


def until_accepted(street: LineStreet, count: int) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while street.heard.accepted < count:
        assert time.monotonic() < deadline_s, f"{street.heard.accepted} of {count} plans in {PATIENCE_S:g} s"
        street.step()
