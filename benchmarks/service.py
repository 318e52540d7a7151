"""`citytwin serve` against a street that speaks over a broker, in real time: what arrives and what is lost.

    python benchmarks/service.py --city zone --seconds 300 [--kill-at 150] [--json]

A Mosquitto, a virtual city on the wall clock whose devices publish and whose controllers take plans, and the service
as a process of its own, killed with -9 half way and started again. The demand begins with the benchmark. Told:
messages that the street sent after the first plan and the service never recorded (of feeds that name nobody: others
are recorded under pseudonyms), the time that they took over the line, plans accepted and refused at the controllers,
and for how long no plan came before and after the kill. The service is slow to begin, not to come back: it loads.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.own_broker import OwnBroker
from networks import line
from networks.city import CityFolder, write_city
from networks.messages import Frame, PlanReceipt
from scenarios.cities import find_city
from scenarios.street_terms import StreetOptions
from scenarios.virtual_city import VirtualCity
from twin.broadcast import Sending
from twin.broker import CENTRE
from twin.mqtt import BrokerAddress, BrokerLink
from twin.recorder import Recording

Key = tuple[str, str, int]  # feed, source, counter

NAMING = ("v2x",)  # feeds whose sources are recorded under pseudonyms
GATEWAY = "street"
PASSWORDS = {CENTRE: "word-of-the-centre", GATEWAY: "word-of-the-street"}
STEP_S = 1.0
STREET_S = 60.0
LISTENS_S = 20.0
STARTS_S = 8.0  # until a street is there, or somewhat longer: then it catches up
TAKEN_S = 5.0  # until the last messages have been taken


def broker(folder: Path) -> OwnBroker:
    """A Mosquitto for the centre and one gateway of all devices."""
    return OwnBroker(folder, passwords=PASSWORDS, gateways=[GATEWAY])


def write_config(folder: Path, city: str, port: int, **changed: str) -> Path:
    """A file for `citytwin serve` that controls a city live; `changed`: further lines at its top."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "password").write_text(PASSWORDS[CENTRE] + "\n")
    (folder / "plans.key").write_text("a key of sixteen bytes or more\n")
    top = {"city": city, "control": "live", "store": "history", "record": "log", "signing_key_file": "plans.key"}
    lines = [f"{name} = {json.dumps(value)}" for name, value in {**top, **changed}.items()]
    lines += ["[broker]", 'host = "localhost"', f"port = {port}", f'username = "{CENTRE}"']
    lines += ['password_file = "password"', "[page]", "port = 0"]
    path = folder / "service.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def start_service(config: Path, *words: str) -> subprocess.Popen[bytes]:
    with (config.parent / "service.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "twin.cli", "serve", "--config", str(config), *words], stdout=log, stderr=log
        )


@dataclass
class Heard:
    """What a street has sent and been told."""

    sent_s: dict[Key, float] = field(default_factory=dict)  # wall time
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    last_plan_s: float = -math.inf  # wall time at which the newest accepted plan was answered
    longest_pause_s: float = 0.0  # between two accepted plans


def soon(city: CityFolder, folder: Path) -> CityFolder:
    """The city described in a folder of its own, with a demand that begins in some seconds."""
    folder.mkdir()
    begun = replace(city, epoch_s=math.ceil(time.time()) + STARTS_S)
    write_city(begun, folder)
    return begun


class LineStreet:
    """A virtual city on the wall clock, its devices and controllers behind one gateway on the line."""

    def __init__(self, city: CityFolder, options: StreetOptions, port: int) -> None:
        """`city`: of a demand that begins soon, see `soon`."""
        self.heard = Heard()
        self._now_s = city.epoch_s
        self._street = VirtualCity(city, options)
        address = BrokerAddress("localhost", port, GATEWAY, GATEWAY, PASSWORDS[GATEWAY])
        self._link = BrokerLink(address, (line.ALL_DOWN,))

    def __enter__(self) -> LineStreet:
        self._street.start()
        self._link.start()
        if not self._link.wait_connected(LISTENS_S):
            raise SystemExit(f"the street has no line: {self._link.refusal}")
        self.step()
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()
        self._street.close()

    def step(self) -> None:
        """Live through the second that begins now: orders in, messages of its begin out."""
        time.sleep(max(0.0, self._now_s - time.time()))
        self._now_s += STEP_S
        deliveries = self._link.take()
        orders = [delivery.payload for delivery in deliveries]
        self._link.acknowledge(deliveries)
        self._street.advance(self._now_s, orders)
        report = self._street.collect(STREET_S)
        self.heard.sent_s |= dict.fromkeys(map(key_of, report.frames), time.time())
        self._link.send([Sending(line.up_topic(f.feed, f.source), line.pack_frame(f)) for f in report.frames])
        for frame in report.frames:
            if frame.feed == "receipts":
                self._note(PlanReceipt.model_validate_json(frame.payload))

    def _note(self, receipt: PlanReceipt) -> None:
        heard, now_s = self.heard, time.time()
        if not receipt.accepted:
            heard.refused[receipt.reason] += 1
            return
        heard.accepted += 1
        if heard.last_plan_s > 0:
            heard.longest_pause_s = max(heard.longest_pause_s, now_s - heard.last_plan_s)
        heard.last_plan_s = now_s


def key_of(frame: Frame) -> Key:
    return frame.feed, frame.source, frame.counter


def compare(sent_s: dict[Key, float], log: Path) -> tuple[int, int, list[float]]:
    """Of messages of feeds that name nobody: how many were sent, how many were never recorded; and each one's way."""
    received_s: dict[Key, float] = {}
    for frame in Recording(log):
        received_s.setdefault(key_of(frame), frame.received_at_s)
    sent_s = {key: at_s for key, at_s in sent_s.items() if key[0] not in NAMING}
    ways_s = [received_s[key] - at_s for key, at_s in sent_s.items() if key in received_s]
    return len(sent_s), len(sent_s) - len(ways_s), ways_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone")
    parser.add_argument("--seconds", type=int, default=300, help="real seconds after the first plan")
    parser.add_argument("--kill-at", type=int, default=150, help="after so many of them; 0 never")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    order = parser.parse_args()
    city = find_city(order.city)
    with tempfile.TemporaryDirectory(prefix="citytwin_service_") as folder, broker(Path(folder) / "broker") as own:
        begun = soon(city, Path(folder) / "city")
        config = write_config(Path(folder) / "service", str(Path(folder) / "city"), own.port)
        options = StreetOptions(seed=order.seed, duration_s=city.end_s - city.begin_s, coverage=city.coverage)
        back_s = None
        with LineStreet(begun, options, own.port) as street:
            service = start_service(config)
            try:
                while not street.heard.accepted:
                    street.step()
                street.heard, before_s = Heard(), 0.0
                for second in range(order.seconds):
                    street.step()
                    if second + 1 == order.kill_at:
                        before_s = street.heard.longest_pause_s
                        service.kill()
                        service.wait()
                        service = start_service(config)
                back_s = street.heard.longest_pause_s if order.kill_at else None
                heard = street.heard
                time.sleep(TAKEN_S)
            finally:
                service.send_signal(signal.SIGTERM)
                code = service.wait()
        sent, lost, ways_s = compare(heard.sent_s, config.parent / "log")
    document = {
        "city": city.name,
        "seconds": order.seconds,
        "messages": sent,
        "lost": lost,
        "line_ms_p50_p99": [round(1e3 * float(np.quantile(ways_s, q)), 1) for q in (0.5, 0.99)],
        "plans_accepted": heard.accepted,
        "plans_refused": dict(heard.refused),
        "longest_pause_before_kill_s": round(before_s, 1),
        "no_plan_after_kill_s": round(back_s, 1) if back_s is not None else None,
        "exit_code": code,
    }
    print(json.dumps(document) if order.json else "\n".join(f"{k:28s}{v}" for k, v in document.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
