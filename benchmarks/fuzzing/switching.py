"""Live switching under faults: controllers think, the arbiter proves, orders travel as bytes over a bad channel.

Heads in the street obey or refuse, and a bystander looks at the lamps every second.
"""

from __future__ import annotations

import heapq
import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.fuzzing.hostile import Hostility
from networks.errors import MessageError
from networks.graph import Signal
from networks.messages import LampStepOrder, PlanOrder, pack_order, unpack_order
from signals.arbiter import decide
from signals.executor import Head, StartUp
from signals.fixed import OwnProgrammes, fixed_plan
from signals.formats import to_order
from signals.lamps import LampRecord
from signals.plan import LampStep, Proposal, SignalPlan
from signals.rules import rules_of
from signals.watch import Bystander

ZERO_S = 1_772_000_000.0
CYCLES_HOME = 3.0  # a link that plans starved is served by the own programme within so many of its cycles


@dataclass
class Tally:
    """What happened in so many junction-seconds."""

    seconds: int = 0
    counts: Counter[str] = field(default_factory=Counter)  # what was sent, refused, broken on purpose
    violations: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    switches: int = 0
    longest_red_s: float = 0.0
    longest_red_share: float = 0.0  # of what the signal allows

    def add(self, watch: Bystander, signal: Signal, what: str) -> None:
        self.switches += watch.switches
        self.violations.update(watch.counts)
        self.longest_red_s = max(self.longest_red_s, watch.longest_red_s)
        self.longest_red_share = max(self.longest_red_share, watch.longest_red_s / signal.max_red_s)
        self.examples += [f"{what} {signal.id}: {e}" for e in watch.examples]
        self.examples = self.examples[:20]


class Thinker(ABC):
    """A controller as the switching sees it: proposals for the signals that are due."""

    name = ""

    @abstractmethod
    def propose(self, lamps: Sequence[LampRecord | None], now_s: float, valid_from_s: float) -> list[Proposal]:
        """Plans for the signals whose lamps are given."""

    def restart(self) -> None:  # noqa: B027 – most remember nothing
        """Everything that it remembered is lost."""


class Hostile(Thinker):
    """Random stages, broken plans, and for some signals the wish never to change again."""

    name = "hostile"

    def __init__(self, signals: Sequence[Signal], rng: Random) -> None:
        self._makers = [Hostility(s, [], rng) for s in signals]
        self._stubborn = [rng.random() < 0.1 for _ in signals]
        self._rng = rng
        self._due_s = [0.0] * len(signals)

    def propose(self, lamps: Sequence[LampRecord | None], now_s: float, valid_from_s: float) -> list[Proposal]:
        rng, proposals = self._rng, []
        for index, (maker, record) in enumerate(zip(self._makers, lamps, strict=True)):
            if now_s < self._due_s[index]:
                continue
            self._due_s[index] = now_s + rng.randint(1, 5)
            if record is None or not set(record.state) <= set("rRuUyYgGsoO"):
                continue
            if self._stubborn[index]:
                steps = (LampStep(record.state, 60.0),)
                plan = SignalPlan(index, maker.signal.id, steps, valid_from_s, valid_from_s + 15.0)
            else:
                plan = maker.honest(record, valid_from_s, stages=rng.choice((1, 1, 2, 3)))
                if rng.random() < 0.3:
                    plan = maker.damaged(plan)
                plan = SignalPlan(index, plan.signal_id, plan.steps, plan.valid_from_s, plan.valid_until_s)
            proposals.append(Proposal(plan, 0.0, 0.0, 0.0))
        return proposals


class _Post:
    """One signal in the street: its head, what travels to it, what is wrong with it, and who looks at it."""

    def __init__(self, index: int, signal: Signal, *, judge_own: bool) -> None:
        self.index, self.signal = index, signal
        self.fixed = fixed_plan(signal, index=index, epoch_of_zero_s=ZERO_S)
        self.head = Head(signal, OwnProgrammes((self.fixed,)), ZERO_S)
        self.inbox: list[tuple[float, int, bytes]] = []
        self.clock_error_s = 0.0
        self.mended_s = math.inf
        self.judge_own = judge_own
        self.shown = ""
        self.stale = self.head.record
        rules = rules_of(signal)
        self._limit_s = rules.max_red_s + rules.shortest_wait_s + CYCLES_HOME * self.fixed.cycle_s
        self.watch = self._bystander()

    def _bystander(self) -> Bystander:
        self.shown = ""
        return Bystander(
            self.signal,
            min_green_s=math.ceil(float(self.signal.min_green_s.min())),
            longest_red_s=self._limit_s,
        )

    def second(self, now_s: float, tally: Tally) -> None:
        inbox = self.inbox
        while inbox and inbox[0][0] <= now_s:
            self._hear(heapq.heappop(inbox)[2], now_s, tally)
        state = self.head.step(now_s + self.clock_error_s)
        if state != self.shown:
            self.shown = state
            self.watch.look(now_s, state, shipped=not self.judge_own and self.head.mode == "own")

    def _hear(self, payload: bytes, now_s: float, tally: Tally) -> None:
        try:
            order = unpack_order(payload)
        except MessageError:
            tally.counts["orders: unreadable"] += 1
            return
        if isinstance(order, PlanOrder):
            answer = self.head.receive(order, now_s + self.clock_error_s)
            tally.counts[f"orders: {answer.reason or answer.detail or 'accepted'}"] += 1

    def suffer(self, rng: Random, now_s: float, think_s: float, tally: Tally) -> None:
        """Maybe something breaks in the next `think_s` seconds."""
        chance = rng.random() * 1800.0 / think_s  # below 1: once in half an hour
        if now_s >= self.mended_s:
            self.mended_s = math.inf
            self.clock_error_s = 0.0
            self.head.recover()
        elif chance < 0.6:
            self.clock_error_s = rng.choice((math.nan, float(rng.randint(-600, 600)), float(rng.randint(-4, 4))))
            self.mended_s = now_s + rng.randint(1, 300)
            tally.counts["faults: clock"] += 1
        elif chance < 0.75:
            self.head.fail("drill")
            self.mended_s = now_s + rng.randint(1, 300)
            tally.counts["faults: declared failure"] += 1
        elif chance < 0.9:
            self.forget(tally, "power cut")
            self.clock_error_s = 0.0
            self.head = Head(self.signal, OwnProgrammes((self.fixed,)), now_s, start_up=StartUp())
        elif chance < 1.0:
            self.forget(tally, "lamps")
            self.head.check_lamps("?" * self.signal.link_count)
            self.mended_s = now_s + rng.randint(10, 300)

    def forget(self, tally: Tally, fault: str) -> None:
        """What the lamps do when they themselves break is nobody's doing: a new bystander begins."""
        tally.counts[f"faults: {fault}"] += 1
        tally.add(self.watch, self.signal, self.head.mode)
        self.watch = self._bystander()


class Channel:
    """From the centre to the street: loses, doubles, delays and so reorders, and corrupts."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._number = itertools.count()

    def send(self, post: _Post, payload: bytes, now_s: float, tally: Tally) -> None:
        rng = self._rng
        luck = rng.random()
        if luck < 0.08:
            tally.counts["channel: lost"] += 1
            return
        copies = 1
        if luck < 0.13:
            copies = 2
            tally.counts["channel: doubled"] += 1
        elif luck < 0.18:
            payload = corrupt(payload, rng)
            tally.counts["channel: corrupted"] += 1
        for _ in range(copies):
            delay_s = 0.0 if rng.random() < 0.8 else rng.expovariate(0.3)
            heapq.heappush(post.inbox, (now_s + delay_s, next(self._number), payload))


def corrupt(payload: bytes, rng: Random) -> bytes:
    """Bytes flipped, cut, or digits and lamps changed so that the text still reads."""
    data = bytearray(payload)
    kind = rng.randrange(3)
    if kind == 0:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.randint(1, 3)):
        n = rng.randrange(len(data))
        if kind == 1:
            data[n] ^= 1 << rng.randrange(8)
            continue
        same = b"0123456789" if chr(data[n]).isdigit() else b"Ggyr" if data[n] in b"Ggyr" else b""
        if same:
            data[n] = rng.choice(same)
    return bytes(data)


def switch(
    thinker: Thinker, signals: Sequence[Signal], rng: Random, seconds: int, *, think_s: float, judge_own: bool
) -> Tally:
    """Let the controller run the signals for so many seconds through everything that can go wrong."""
    tally, channel = Tally(seconds=seconds * len(signals)), Channel(rng)
    posts = [_Post(index, signal, judge_own=judge_own) for index, signal in enumerate(signals)]
    version = 0
    for second in range(seconds):
        now_s = ZERO_S + second
        if second % think_s == 0:
            if rng.random() < think_s / 3600.0:
                thinker.restart()
                version = 0
                tally.counts["faults: controller restarted"] += 1
            if rng.random() > think_s / 600.0:  # else it hangs this time
                version = _think(thinker, posts, channel, rng, now_s, version, tally)
            for post in posts:
                post.suffer(rng, now_s, think_s, tally)
        for post in posts:
            post.second(now_s, tally)
    for post in posts:
        post.watch.finish(ZERO_S + seconds)
        tally.add(post.watch, post.signal, thinker.name)
        tally.counts.update(f"falls: {f.reason.split(' at ')[0].split(' by ')[0][:24]}" for f in post.head.falls)
    return tally


def _think(
    thinker: Thinker,
    posts: Sequence[_Post],
    channel: Channel,
    rng: Random,
    now_s: float,
    version: int,
    tally: Tally,
) -> int:
    """One cycle of the centre; returns the next free version."""
    lamps = [_believed(post, rng, now_s) for post in posts]
    try:
        proposals = thinker.propose(lamps, now_s, now_s + rng.choice((0.0, 1.0, 1.0, 2.0)))
    except Exception as fault:  # the live loop catches a controller's fault and goes on without it
        tally.counts[f"controller raised {type(fault).__name__}"] += 1
        proposals = []
    decision = decide(proposals, [post.signal for post in posts], lamps, now_s=now_s, first_version=version)
    tally.counts["proposals"] += len(proposals)
    tally.counts["proposals refused"] += len(decision.refused)
    for approved in decision.approved:
        payload = pack_order(to_order(approved, signature=approved.proof))
        channel.send(posts[approved.plan.signal], payload, now_s, tally)
    if rng.random() < 0.1 * len(posts):
        for proposal, _ in decision.refused[:2]:  # somebody sends what was refused all the same
            forged = _forge(proposal.plan, version + len(posts))
            if forged is not None:
                tally.counts["orders forged"] += 1
                channel.send(posts[proposal.plan.signal], pack_order(forged), now_s, tally)
    return version + len(posts) + 1


def _believed(post: _Post, rng: Random, now_s: float) -> LampRecord | None:
    """What the centre takes the lamps to be."""
    luck = rng.random()
    record = post.head.record
    if luck < 0.03:
        return None
    if luck < 0.06:
        return post.stale
    if luck < 0.08:
        return LampRecord.doubtful(record.state, now_s)
    post.stale = record
    return record


def _forge(plan: SignalPlan, version: int) -> PlanOrder | None:
    try:
        return PlanOrder(
            junction=plan.signal_id,
            plan_version=version,
            valid_from=plan.valid_from_s,
            valid_until=plan.valid_until_s,
            repeats=plan.repeats,
            steps=tuple(LampStepOrder(state=s.state, duration_s=s.duration_s) for s in plan.steps),
        )
    except ValueError:
        return None
