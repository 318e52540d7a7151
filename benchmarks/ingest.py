"""What the border can take: decoded messages a second with fusion on one core, latency, and what got lost.

    python benchmarks/ingest.py --json

Units of a city send roadside safety messages (RSM, 16 participants, 10 Hz), vehicles tell of themselves (BSM, 10 Hz)
and controllers tell their lamps (SPAT, 1 Hz), as frames of bytes. Three measurements on one thread:

- decode: one RSM, BSM and SPAT from bytes to the values of a report, by the bit readers and by asn1tools alone;
- throughput: every frame through envelope, inbox and fused state, as fast as it goes, in cycles of `--cycle` seconds,
  by processor time;
- latency: the same in real time; from the moment a frame comes in until a fused state made after it is there.

With `--line` the frames also go through a real Mosquitto (Debian: mosquitto) that is restarted half way.

Lost is what was offered and is neither a row nor in quarantine with its reason. The network is the synthetic zone,
where several units share a signal when it has fewer signals than units.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.own_broker import OwnBroker
from networks import day_one
from networks.city import load_network
from networks.coordinates import to_wgs84
from networks.errors import MessageError
from networks.graph import Network
from networks.messages import Frame
from scenarios.cities import find_city
from signals.fixed import fixed_plan
from twin.broadcast import Sending
from twin.broker import CENTRE, find_tool
from twin.feeds.bsm import BsmAdapter
from twin.feeds.rsm import RsmAdapter
from twin.feeds.spat import SpatAdapter
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.mqtt import BrokerAddress, BrokerLink, carry
from twin.numbering import Numbering, own_numbering
from twin.privacy import Pseudonyms
from twin.road_messages import spat_value

T0_S = 1_772_406_000.0
RATE_HZ = 10
SPEED_MPS = 8.0
WAY_S = 0.05  # from a device to us
BAR_MESSAGES_S, BAR_DECODE_US, BAR_LATENCY_S = 5000.0, 30.0, 1.0


class Traffic(NamedTuple):
    """Cars that drive up and down lanes before signals, one row a car."""

    x0_m: np.ndarray[Any, np.dtype[np.float64]]
    y0_m: np.ndarray[Any, np.dtype[np.float64]]
    dx: np.ndarray[Any, np.dtype[np.float64]]
    dy: np.ndarray[Any, np.dtype[np.float64]]
    length_m: np.ndarray[Any, np.dtype[np.float64]]
    start_m: np.ndarray[Any, np.dtype[np.float64]]

    def at(self, into_s: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        along = (self.start_m + SPEED_MPS * into_s) % (2.0 * self.length_m)
        along = np.minimum(along, 2.0 * self.length_m - along)
        return self.x0_m + along * self.dx, self.y0_m + along * self.dy


class Message(NamedTuple):
    """One frame of a unit as it arrives."""

    kind: str
    payload: bytes
    arrives_s: float


def draw_traffic(rng: np.random.Generator, network: Network, signal_of: np.ndarray[Any, Any]) -> Traffic:
    rows = []
    for signal in signal_of.tolist():
        lanes = np.unique(network.movements.from_lane[network.movements.signal == signal])
        shape = np.reshape(network.lanes.shape_xy[int(rng.choice(lanes))], (-1, 2))
        (x0, y0), (x1, y1) = shape[-2], shape[-1]
        length = max(float(np.hypot(x1 - x0, y1 - y0)), 1.0)
        used = min(length, 100.0)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        rows.append((x1 - used * dx, y1 - used * dy, dx, dy, used, rng.uniform(0.0, used)))
    return Traffic(*np.array(rows).T)


def stream(
    network: Network, numbering: Numbering, args: argparse.Namespace, rng: np.random.Generator
) -> list[Message]:
    """Every frame of `args.seconds`, in order of arrival."""
    signals = len(network.signals)
    unit_signal = np.arange(args.units) % signals
    seen = draw_traffic(rng, network, np.repeat(unit_signal, args.participants))
    own = draw_traffic(rng, network, rng.integers(0, signals, args.vehicles))
    middles = np.array([network.node_xy[list(s.nodes)].mean(axis=0) for s in network.signals])
    refs = _integers(network, middles[:, 0], middles[:, 1])
    plans = [fixed_plan(s, index=i, epoch_of_zero_s=T0_S - 600.0) for i, s in enumerate(network.signals)]
    spread = rng.uniform(0.0, 1.0 / RATE_HZ, args.units + args.vehicles)
    messages: list[Message] = []
    for tick in range(args.seconds * RATE_HZ):
        at_s = T0_S + tick / RATE_HZ
        lon, lat = _integers(network, *seen.at(tick / RATE_HZ))
        heading = _headings(seen)
        for unit in range(args.units):
            mine = range(unit * args.participants, (unit + 1) * args.participants)
            moment_s = at_s + spread[unit]
            value = {
                "msgCnt": tick % 128,
                "id": b"%08d" % unit,
                "refPos": {"lat": refs[1][unit % signals], "long": refs[0][unit % signals]},
                "participants": [_participant(n % 65_536, lon[n], lat[n], heading[n], moment_s) for n in mine],
            }
            messages.append(_message("RSM", f"{unit:08d}", [value], moment_s))
        lon, lat = _integers(network, *own.at(tick / RATE_HZ))
        heading = _headings(own)
        for vehicle in range(args.vehicles):
            moment_s = at_s + spread[args.units + vehicle]
            value = _vehicle(vehicle, tick % 128, lon[vehicle], lat[vehicle], heading[vehicle], moment_s)
            messages.append(_message("BSM", f"{vehicle % args.units:08d}", [value], moment_s))
        if tick % RATE_HZ == 0:
            for plan in plans:
                value = spat_value(network, numbering, [plan], now_s=at_s, count=tick, sure_until_s=np.inf)
                messages.append(_message("SPAT", f"{plan.signal:08d}", [value], at_s))
    return sorted(messages, key=lambda message: message.arrives_s)


def _integers(network: Network, x_m: Any, y_m: Any) -> tuple[list[int], list[int]]:
    lon, lat = to_wgs84(network, x_m, y_m)
    return np.rint(lon * 1e7).astype(int).tolist(), np.rint(lat * 1e7).astype(int).tolist()


def _headings(traffic: Traffic) -> list[int]:
    clockwise_deg = 90.0 - np.degrees(np.arctan2(traffic.dy, traffic.dx))
    return (np.rint(clockwise_deg % 360.0 / day_one.HEADING_UNIT_DEG).astype(int) % day_one.NO_HEADING).tolist()


def _participant(number: int, lon: int, lat: int, heading: int, at_s: float) -> dict[str, Any]:
    return {
        "ptcType": "motor",
        "ptcId": number,
        "source": "integrated",
        "secMark": int(at_s % 60.0 * 1e3),
        "pos": {"offsetLL": ("position-LatLon", {"lon": lon, "lat": lat})},
        "posConfidence": {"pos": "a50cm"},
        "speed": round(SPEED_MPS / day_one.SPEED_UNIT_MPS),
        "heading": heading,
        "accelSet": {"long": 0, "lat": 0, "vert": 0, "yaw": 0},
        "size": {"width": 180, "length": 480},
        "vehicleClass": {"classification": 10},
    }


def _vehicle(number: int, count: int, lon: int, lat: int, heading: int, at_s: float) -> dict[str, Any]:
    return {
        "msgCnt": count,
        "id": number.to_bytes(8, "big"),
        "secMark": int(at_s % 60.0 * 1e3),
        "pos": {"lat": lat, "long": lon},
        "transmission": "forwardGears",
        "speed": round(SPEED_MPS / day_one.SPEED_UNIT_MPS),
        "heading": heading,
        "accelSet": {"long": 0, "lat": 0, "vert": 0, "yaw": 0},
        "brakes": {},
        "size": {"width": 180, "length": 480},
        "vehicleClass": {"classification": 10},
    }


def _message(kind: str, unit: str, values: list[dict[str, Any]], at_s: float) -> Message:
    encoded = [day_one.encode(kind, value) for value in values]
    return Message(kind, day_one.pack_envelope(unit, at_s, kind, encoded), at_s + WAY_S)


class Border:
    """Inbox and fusion of one city, with an account of everything offered."""

    def __init__(self, network: Network, numbering: Numbering) -> None:
        names = Pseudonyms(b"benchmark")
        formats = (RsmAdapter(network), BsmAdapter(network, names), SpatAdapter(network, numbering))
        self.inbox = Inbox(network, (), pseudonyms=names, formats=formats)
        self._fusion = Fusion(network, (), range(len(network.signals)), None)
        self.offered = 0
        self.taken_rows = 0

    def offer(self, message: Message) -> None:
        for frame in day_one.frames_of(message.kind, message.payload, message.arrives_s):
            self.offered += 1
            self.inbox.offer(frame, message.arrives_s)

    def cycle(self, now_s: float) -> None:
        batches = self.inbox.take(now_s)
        self.taken_rows += len(batches.tracks.unit) + len(batches.probes.vehicle) + len(batches.signals.signal)
        self._fusion.update(batches, now_s, None)

    def account(self) -> dict[str, int]:
        tallies = self.inbox.tallies.values()
        accepted, refused = (sum(getattr(t, f"frames_{how}") for t in tallies) for how in ("accepted", "refused"))
        return {
            "offered": self.offered,
            "accepted": accepted,
            "refused": refused,
            "lost": self.offered - accepted - refused,
            "rows_accepted": sum(t.rows_accepted for t in tallies),
            "rows_lost": sum(t.rows_accepted for t in tallies) - self.taken_rows,
        }


def measure_decode(network: Network, numbering: Numbering, messages: list[Message]) -> dict[str, float]:
    """Microseconds a message, from bytes to the values of a report; by asn1tools for comparison."""
    names = Pseudonyms(b"benchmark")
    adapters = (RsmAdapter(network), BsmAdapter(network, names), SpatAdapter(network, numbering))
    result: dict[str, float] = {}
    for adapter in adapters:
        kind = adapter.feed.upper()
        frames = [
            frame
            for message in messages
            if message.kind == kind
            for frame in day_one.frames_of(kind, message.payload, message.arrives_s)
        ][:2000]
        if not frames:
            continue
        adapter.decode(frames[0])
        own = [_time_us(lambda frame=frame, adapter=adapter: adapter.decode(frame)) for frame in frames]
        general = [_time_us(lambda frame=frame: day_one.decode(frame.payload)) for frame in frames[:200]]
        result[f"{adapter.feed}_us_p50"] = float(np.percentile(own, 50))
        result[f"{adapter.feed}_us_p99"] = float(np.percentile(own, 99))
        result[f"{adapter.feed}_asn1tools_us_p50"] = float(np.percentile(general, 50))
    return result


def _time_us(work: Any) -> float:
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1e6


def measure_flood(network: Network, numbering: Numbering, messages: list[Message], seed: int) -> dict[str, float]:
    """Processor time that a refused frame costs: noise of every feed, honest frames cut short, and the same again."""
    rng = np.random.default_rng([seed, 7])
    border = Border(network, numbering)
    honest = messages[:500]
    for message in honest:
        border.offer(message)
    now_s = honest[0].arrives_s
    cut = [m._replace(payload=m.payload[: 16 + int(rng.integers(0, 60))]) for m in honest]
    noise = [
        Frame(feed, f"liar{k % 50}", k, now_s, now_s, rng.bytes(int(rng.integers(1, 400))))
        for k in range(1000)
        for feed in ("rsm", "bsm", "spat")
    ]
    begin_s = time.process_time()
    for frame in noise:
        border.inbox.offer(frame, now_s)
    for message in cut:
        try:
            border.offer(message)
        except MessageError as error:
            border.inbox.refuse(Frame("mqtt", "", 0, now_s, now_s, message.payload), error, now_s)
    for message in honest:
        border.offer(message)
    spent_s = time.process_time() - begin_s
    return {"frames": float(len(noise) + 1000), "us_per_frame": spent_s / (len(noise) + 1000) * 1e6}


def measure_throughput(
    network: Network, numbering: Numbering, messages: list[Message], cycle_s: float
) -> dict[str, Any]:
    """Seconds of processor time, so that other work on the machine does not show; the wall's beside them."""
    border = Border(network, numbering)
    first = messages[0].arrives_s
    cycle_end_s, cycles_s = first + cycle_s, []
    begin_wall_s, begin_s = time.perf_counter(), time.process_time()
    for message in messages:
        if message.arrives_s >= cycle_end_s:
            mark_s = time.process_time()
            border.cycle(cycle_end_s)
            cycles_s.append(time.process_time() - mark_s)
            cycle_end_s += cycle_s
        border.offer(message)
    border.cycle(cycle_end_s)
    spent_s = time.process_time() - begin_s
    return {
        "messages_per_s": border.offered / spent_s,
        "border_messages_per_s": border.offered / (spent_s - sum(cycles_s)),
        "cycle_s_p50": float(np.percentile(cycles_s, 50)),
        "processor_s": spent_s,
        "wall_s": time.perf_counter() - begin_wall_s,
        "street_s": messages[-1].arrives_s - first,
        **border.account(),
    }


def measure_latency(
    network: Network, numbering: Numbering, messages: list[Message], cycle_s: float
) -> dict[str, Any]:
    """In real time: frames are offered when they arrive, and a state is made at every multiple of the cycle."""
    border = Border(network, numbering)
    first = messages[0].arrives_s
    shift_s = time.time() - first
    waiting: list[float] = []
    latencies: list[float] = []
    cycle_end_s = first + cycle_s
    for message in _paced(messages, shift_s):
        while message is None or message.arrives_s >= cycle_end_s:
            border.cycle(cycle_end_s)
            now_s = time.time() - shift_s
            latencies += [now_s - arrived_s for arrived_s in waiting]
            waiting.clear()
            cycle_end_s += cycle_s
            if message is None:
                break
        if message is not None:
            border.offer(message)
            waiting.append(message.arrives_s)
    return {
        "p50_s": float(np.percentile(latencies, 50)),
        "p99_s": float(np.percentile(latencies, 99)),
        "max_s": float(np.max(latencies)),
        "cycle_s": cycle_s,
        **border.account(),
    }


def _paced(messages: list[Message], shift_s: float) -> Iterator[Message | None]:
    for message in messages:
        early_s = message.arrives_s - (time.time() - shift_s)
        if early_s > 0:
            time.sleep(early_s)
        yield message
    yield None


def measure_line(network: Network, messages: list[Message], count: int) -> dict[str, Any]:
    """One unit says `count` frames over a broker at QoS 1; the broker is stopped and started when half are there."""
    frames = [Sending(day_one.up_topic("RSM"), m.payload) for m in messages if m.kind == "RSM"][:count]
    passwords = {CENTRE: "centre", "unit": "unit"}
    with (
        tempfile.TemporaryDirectory() as folder,
        OwnBroker(Path(folder) / "b", passwords=passwords, units=["unit"]) as broker,
    ):
        for_centre, for_unit = (BrokerAddress("127.0.0.1", broker.port, n, n, word) for n, word in passwords.items())
        inbox = Inbox(network, (), formats=(RsmAdapter(network),))
        arrives_s = messages[-1].arrives_s
        said = 0
        restarted_s = math.nan
        begin_s = time.perf_counter()
        with (
            BrokerLink(for_centre, clock=lambda: arrives_s) as centre,
            BrokerLink(for_unit, ()) as unit,
        ):
            if not (centre.wait_connected(30) and unit.wait_connected(30)):
                raise SystemExit(f"no line to the broker: {centre.refusal} {unit.refusal}")
            while inbox.tallies["rsm"].frames_accepted < len(frames) and time.perf_counter() - begin_s < 120.0:
                said += unit.send(frames[said : said + 200])
                if not carry(centre, inbox, None, arrives_s):
                    time.sleep(0.005)
                if math.isnan(restarted_s) and inbox.tallies["rsm"].frames_accepted >= len(frames) // 2:
                    mark_s = time.perf_counter()
                    broker.stop()
                    broker.start()
                    restarted_s = time.perf_counter() - mark_s
        spent_s = time.perf_counter() - begin_s
    tally = inbox.tallies["rsm"]
    return {
        "said": len(frames),
        "accepted": tally.frames_accepted,
        "lost": len(frames) - tally.frames_accepted,
        "came_twice": inbox.quarantine.count_reasons().get(("rsm", "duplicate"), 0),
        "broker_away_s": restarted_s,
        "wall_s": spent_s,
        "messages_per_s": tally.frames_accepted / spent_s,
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    network = load_network(find_city(args.city))
    numbering = own_numbering(network)
    messages = stream(network, numbering, args, np.random.default_rng(args.seed))
    warm = Border(network, numbering)
    for message in messages[:200]:
        warm.offer(message)
    warm.cycle(messages[200].arrives_s)
    throughput = measure_throughput(network, numbering, messages, args.cycle)
    latency = measure_latency(network, numbering, messages, args.cycle)
    decode = measure_decode(network, numbering, messages)
    return {
        "mix": {
            "units": args.units,
            "participants": args.participants,
            "vehicles": args.vehicles,
            "signals": len(network.signals),
            "rate_hz": RATE_HZ,
            "street_seconds": args.seconds,
            "seed": args.seed,
        },
        "messages_per_s": throughput["messages_per_s"],
        "loss": throughput["lost"] + throughput["rows_lost"] + latency["lost"] + latency["rows_lost"],
        "latency_p99_s": latency["p99_s"],
        "decode": decode,
        "throughput": throughput,
        "latency": latency,
        "flood": measure_flood(network, numbering, messages, args.seed),
        "line": measure_line(network, messages, args.line) if args.line else None,
        "bars": {
            "messages_per_s": throughput["messages_per_s"] >= BAR_MESSAGES_S,
            "decode_us": decode["rsm_us_p50"] <= BAR_DECODE_US,
            "latency_p99_s": latency["p99_s"] < BAR_LATENCY_S,
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--city", default="zone", help="bundled city or folder")
    parser.add_argument("--units", type=int, default=329, help="roadside units")
    parser.add_argument("--participants", type=int, default=16, help="participants of each message, 1 to 16")
    parser.add_argument("--vehicles", type=int, default=200, help="vehicles that tell of themselves")
    parser.add_argument("--seconds", type=int, default=6, help="seconds of street time")
    parser.add_argument("--cycle", type=float, default=0.25, help="seconds from one fused state to the next")
    parser.add_argument("--line", type=int, default=0, help="frames to send over a real broker, 0 none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON document")
    args = parser.parse_args()
    if not 1 <= args.participants <= 16 or args.units < 1 or args.seconds < 1 or args.cycle <= 0:
        parser.error("participants 1 to 16, units and seconds at least 1, cycle above 0")
    if args.line and find_tool("mosquitto") is None:
        parser.error("--line needs Mosquitto (Debian: mosquitto)")
    result = run(args)
    if args.json:
        print(json.dumps(result))
        return
    decode = result["decode"]
    print(f"decode   {decode['rsm_us_p50']:.1f} us an RSM (asn1tools {decode['rsm_asn1tools_us_p50']:.0f} us)")
    print(f"through  {result['messages_per_s']:.0f} messages/s with fusion")
    print(f"latency  p50 {result['latency']['p50_s']:.2f} s, p99 {result['latency']['p99_s']:.2f} s")
    print(f"lost     {result['loss']}")
    print(f"flood    {result['flood']['us_per_frame']:.0f} us a refused frame")
    if result["line"]:
        line = result["line"]
        print(f"line     {line['messages_per_s']:.0f} messages/s, lost {line['lost']}, twice {line['came_twice']}")


if __name__ == "__main__":
    main()
