"""The line over a real broker: who may, what survives a restart, and that nothing acknowledged is lost or twice."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.own_broker import OwnBroker
from networks import day_one
from networks.errors import InputError
from tests.twin import placed_town as town
from twin.broadcast import Sending
from twin.broker import CENTRE, Certificates, find_tool, write_broker_files
from twin.feeds.rsm import RsmAdapter
from twin.inbox import Inbox
from twin.mqtt import BrokerAddress, BrokerLink, Delivery, carry
from twin.privacy import Pseudonyms
from twin.recorder import Recorder, Recording

NETWORK = town.placed_crossroads()
T0_S = town.T0_S
UNITS = ("unit0001", "unit0002")
PASSWORDS = {name: f"secret-of-{name}" for name in (CENTRE, *UNITS)}
PATIENCE_S = 20.0

pytestmark = pytest.mark.skipif(find_tool("mosquitto") is None, reason="needs Mosquitto (Debian: mosquitto)")


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline_s, f"in {PATIENCE_S:g} s not: {what}"
        time.sleep(0.01)


class Broker(OwnBroker):
    """A Mosquitto of our own for two units and the centre, and links to it."""

    def __init__(self, folder: Path, certificates: Certificates | None = None) -> None:
        super().__init__(folder, passwords=PASSWORDS, units=UNITS, certificates=certificates)
        self.certificates = certificates

    def link(self, user: str, topics: tuple[str, ...] | None = None, password: str | None = None) -> BrokerLink:
        ca_file = self.certificates.ca_file if self.certificates else None
        address = BrokerAddress("localhost", self.port, user, user, password or PASSWORDS[user], ca_file)
        if topics is not None:
            return BrokerLink(address, topics, clock=lambda: T0_S + 0.1)
        return BrokerLink(address, clock=lambda: T0_S + 0.1)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as made:
        yield made


@contextmanager
def connected(link: BrokerLink) -> Iterator[BrokerLink]:
    with link:
        assert link.wait_connected(PATIENCE_S), link.refusal
        yield link


def envelopes(count: int, first: int = 0, unit: str = UNITS[0]) -> list[Sending]:
    x_m, y_m = town.middle()
    sendings = []
    for k in range(first, first + count):
        at_s = T0_S - 2.0 + 0.01 * k
        message = day_one.encode("RSM", town.rsm(town.participant(k % 100, x_m, y_m, at_s), count=k % 128))
        sendings.append(Sending(day_one.up_topic("RSM"), day_one.pack_envelope(unit, at_s, "RSM", [message])))
    return sendings


def fresh() -> Inbox:
    return Inbox(NETWORK, (), pseudonyms=Pseudonyms(b"test"), formats=(RsmAdapter(NETWORK),))


def accepted(inbox: Inbox) -> int:
    return inbox.tallies["rsm"].frames_accepted


def test_nothing_is_lost_or_counted_twice_across_restarts_of_broker_and_twin(broker: Broker, tmp_path: Path) -> None:
    inbox = fresh()
    log = tmp_path / "log"
    recorder = Recorder(log, city="test", network="", pseudonyms=Pseudonyms(b"test"))
    with connected(broker.link(UNITS[0], ())) as unit:
        with connected(broker.link(CENTRE)) as centre:
            assert unit.send(envelopes(50)) == 50
            wait_for(lambda: carry(centre, inbox, recorder, T0_S + 0.2) > 0, "the first have come")
            taken_and_never_acknowledged = centre.take()
        assert accepted(inbox) + len(taken_and_never_acknowledged) <= 50
        unit.send(envelopes(50, 50))  # nobody listens
        broker.stop()
        unit.send(envelopes(50, 100))  # nobody is there
        broker.start()
        with connected(broker.link(CENTRE)) as centre:
            wait_for(
                lambda: (carry(centre, inbox, recorder, T0_S + 0.2), accepted(inbox) >= 150)[1], "everything has come"
            )
            assert unit.send(envelopes(50, 150)) == 50
            broker.stop()
            broker.start()
            wait_for(
                lambda: (carry(centre, inbox, recorder, T0_S + 0.2), accepted(inbox) >= 200)[1], "everything has come"
            )
    recorder.close()
    assert accepted(inbox) == 200
    assert {reason for _, reason in inbox.quarantine.count_reasons()} <= {"duplicate"}
    moments = inbox.take(T0_S + 1).tracks.measured_at_s
    assert sorted(round(at_s - T0_S, 3) for at_s in moments) == pytest.approx([0.01 * k - 2.0 for k in range(200)])
    again = fresh()
    for frame in Recording(log):
        again.offer(frame, T0_S + 0.2)
    assert accepted(again) == 200, "what the recorder kept gives the same"


def test_what_is_not_taken_waits_at_the_broker_and_not_here(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twin.mqtt.WINDOW", 10)
    with connected(broker.link(CENTRE)) as centre, connected(broker.link(UNITS[0], ())) as unit:
        unit.send(envelopes(60))
        seen: list[bytes] = []
        while len(seen) < 60:
            held: list[Delivery] = []
            wait_for(lambda held=held: bool(held.extend(centre.take()) or held), "some have come")
            assert len(held) <= 10
            seen += [delivery.payload for delivery in held]
            centre.acknowledge(held)
        assert seen == [sending.payload for sending in envelopes(60)], "each once and in order"


def test_garbage_on_the_line_is_accounted_for_and_stops_nothing(broker: Broker) -> None:
    inbox = fresh()
    good = envelopes(1)[0]
    junk = [Sending(day_one.up_topic(kind), data) for kind in ("RSM", "BSM") for data in (b"", b"\xff" * 40)]
    with connected(broker.link(CENTRE)) as centre, connected(broker.link(UNITS[0], ())) as unit:
        unit.send([*junk, good])
        wait_for(lambda: (carry(centre, inbox, None, T0_S + 0.2), accepted(inbox) == 1)[1], "the good one has come")
    assert inbox.quarantine.total == len(junk)
    assert all("frame: " in refused.detail for refused in inbox.quarantine.newest())


def test_a_unit_hears_only_what_is_for_it_and_cannot_speak_for_the_centre(broker: Broker) -> None:
    mine, other = (day_one.down_topic("SPAT", unit) for unit in UNITS)
    with (
        connected(broker.link(CENTRE, ())) as centre,
        connected(broker.link(UNITS[0], (mine, other))) as unit,
    ):
        unit.send([Sending(mine, b"forged")])
        centre.send([Sending(other, b"for another"), Sending(mine, b"for me")])
        heard = []
        wait_for(lambda: bool(heard.extend(unit.take()) or heard), "what is for it has come")
        assert [(delivery.topic, delivery.payload) for delivery in heard] == [(mine, b"for me")]


def test_a_wrong_password_is_refused_and_said(broker: Broker) -> None:
    link = broker.link(CENTRE, password="wrong")
    with link:
        wait_for(lambda: bool(link.refusal), "the broker refuses")
        assert not link.connected


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho leaves a refused socket open
def test_the_line_can_be_encrypted_and_checks_whom_it_talks_to(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    own, strange = (_make_certificate(openssl, tmp_path / name) for name in ("own", "strange"))
    with Broker(tmp_path / "broker", own) as secure:
        inbox = fresh()
        with connected(secure.link(CENTRE)) as centre, connected(secure.link(UNITS[0], ())) as unit:
            unit.send(envelopes(1))
            wait_for(lambda: (carry(centre, inbox, None, T0_S + 0.2), accepted(inbox) == 1)[1], "it has come")
        secure.certificates = strange
        with secure.link(CENTRE) as deceived:
            assert not deceived.wait_connected(1.0)


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="TLS files"):
        BrokerLink(BrokerAddress("localhost", ca_file=tmp_path / "missing.pem"))


def test_every_user_of_a_broker_needs_a_password(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unit0002"):
        write_broker_files(tmp_path, units=UNITS, passwords={CENTRE: "a", UNITS[0]: "b"}, port=1)


def _make_certificate(openssl: str, folder: Path) -> Certificates:
    folder.mkdir()
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", str(key), "-out", str(cert), "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return Certificates(cert, cert, key)
