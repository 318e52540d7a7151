"""The rules of safety once more, second by second and link by link, straight from `Signal`: slow and plain."""

from __future__ import annotations

import math

from networks.graph import Signal
from signals.lamps import LampRecord
from signals.plan import SignalPlan


def broken_rules(
    plan: SignalPlan,
    signal: Signal,
    lamps: LampRecord | None,
    until_s: float = math.inf,
    judged_from_s: float = 0.0,
    max_green_s: float = math.inf,
) -> set[tuple[str, tuple[int, ...]]]:
    """(rule, links) of everything that the plan breaks from `judged_from_s` to its end or `until_s`."""
    links = range(signal.link_count)
    strange = {
        ("letters", (k,))
        for step in plan.steps
        for k in links
        if step.state[k] in "soO" and step.state[k] not in {p.state[k] for p in phases(signal)}
    }
    if strange:
        return strange
    start, end = int(plan.valid_from_s), int(min(plan.valid_until_s, until_s))
    if lamps is None:
        lamps = LampRecord.start(plan.state_at(start), start)
    shown = lamps.state
    since, begin, finish = list(lamps.since_s), list(lamps.green_from_s), list(lamps.green_until_s)
    yellow_s = math.ceil(signal.yellow_s)
    found = set()
    for second in range(start, end):
        new = plan.state_at(second)
        for k in links:
            if is_green(shown[k]) and not is_green(new[k]):
                if max_green_s < second - begin[k] < math.inf:
                    found.add(("max green", (k,)))
                if second - begin[k] < math.ceil(signal.min_green_s[k]):
                    found.add(("min green", (k,)))
                if new[k] not in "yY":
                    found.add(("yellow", (k,)))
            if shown[k] in "yY" and new[k] not in "yY" and (second - since[k] < yellow_s or is_green(new[k])):
                found.add(("yellow", (k,)))
            if shown[k] in "rRuUsoO" and new[k] in "yY":
                found.add(("yellow", (k,)))
        for k in links:
            if colour(shown[k]) != colour(new[k]):
                if is_green(shown[k]) or is_off(shown[k]):
                    finish[k] = second
                since[k] = second
                if is_green(new[k]):
                    begin[k] = second
                if is_green(new[k]) or is_off(new[k]):
                    finish[k] = math.inf
        for i in links:
            for j in links:
                judge_pair(signal, i, j, shown, new, second, finish, second in (start, judged_from_s), found)
        for k in links:
            waited_s = second + 1 - since[k] if new[k] in "rRuU" and waits(signal, k) else 0
            if waited_s > signal.max_red_s and second + 1 - start > grace_s(signal):
                found.add(("max red", (k,)))
            if is_green(new[k]) and max_green_s < second + 1 - begin[k] < math.inf:
                found.add(("max green", (k,)))
        if second < judged_from_s:
            found.clear()
        shown = new
    return found


def judge_pair(signal, i, j, shown, new, second, finish, first, found):
    foes = signal.foes[i, j] or signal.foes[j, i]
    conflict = signal.conflicts[i, j] or signal.conflicts[j, i]
    if i == j or not (foes or conflict):
        return
    if conflict and i < j and lit(new[i]) and lit(new[j]):
        found.add(("conflict", (i, j)))
    changed = first or shown[i] != new[i] or shown[j] != new[j]
    both = changed and not conflict and i < j and is_green(new[i]) and is_green(new[j])
    if both and not any(no_stronger(new[i] + new[j], p.state[i] + p.state[j]) for p in phases(signal)):
        found.add(("priority", (i, j)))
    unlit_beside = changed and is_off(new[i]) and lit(new[j])
    if unlit_beside and not any(is_off(p.state[i]) and lit(p.state[j]) for p in phases(signal)):
        found.add(("off", (i, j)))
    if is_green(new[i]) or is_off(new[i]):
        return
    opens = (not is_green(shown[j]) and is_green(new[j])) or (not is_off(shown[j]) and is_off(new[j]))
    rises = shown[j] == "g" and new[j] == "G"
    if rises and any(p.state[j] == "G" and p.state[i] in "Gg" for p in phases(signal)):
        rises = False
    if (opens or rises) and second - finish[i] < clearance_s(signal, i, j, conflict):
        found.add(("pedestrian clearance" if signal.pedestrian[i] else "intergreen", (i, j)))


def clearance_s(signal, i, j, conflict):
    yellow_s = math.ceil(signal.yellow_s)
    leaving_s = (
        max(signal.pedestrian_clearance_s[i], yellow_s) if signal.pedestrian[i] else yellow_s + signal.all_red_s
    )
    if not conflict:
        return math.ceil(leaving_s)
    needed_s = max(signal.intergreen_s[i, j], yellow_s)
    return math.ceil(max(needed_s, leaving_s) if signal.pedestrian[i] else needed_s)


def grace_s(signal):
    """What it may take to open a link: a minimum green, then the longest clearance of the signal, and a second."""
    clearances = [
        clearance_s(signal, i, j, signal.conflicts[i, j] or signal.conflicts[j, i])
        for i in range(signal.link_count)
        for j in range(signal.link_count)
        if signal.foes[i, j] or signal.foes[j, i] or signal.conflicts[i, j] or signal.conflicts[j, i]
    ]
    return max(signal.min_green_s, default=0.0) + max([math.ceil(signal.yellow_s), *clearances]) + 1.0


def waits(signal, k):
    wanted = signal.pedestrian[k] or len(signal.link_movements[k]) > 0
    return wanted and any(p.state[k] in "Gg" for p in phases(signal))


def phases(signal):
    return [p for programme in signal.programmes for p in programme.phases]


def no_stronger(pair, shipped):
    """Whether two greens show the priorities of two shipped ones, or weaker ones."""
    both_g = pair == "gg"
    return (
        is_green(shipped[0])
        and is_green(shipped[1])
        and (both_g or all(s == "G" or p == s for p, s in zip(pair, shipped, strict=True)))
    )


def is_green(letter):
    return letter in "Gg"


def is_off(letter):
    return letter in "oO"


def lit(letter):
    return letter in "GgyY"


def colour(letter):
    for name, letters in (("green", "Gg"), ("yellow", "yY"), ("arrow", "s"), ("off", "oO")):
        if letter in letters:
            return name
    return "red"


def is_no_plan(plan: SignalPlan, signal: Signal, lamps: LampRecord | None) -> bool:
    """Whether the plan is unreadable or not meant for the signal, or its lamps are."""
    if plan.signal_id != signal.id or not 1 <= len(plan.steps) <= 1000:
        return True
    for step in plan.steps:
        if len(step.state) != signal.link_count or any(letter not in "rRuUyYgGsoO" for letter in step.state):
            return True
        if not whole(step.duration_s) or step.duration_s <= 0 or step.duration_s >= 1e9:
            return True
    for moment in (plan.valid_from_s, plan.offset_s):
        if not whole(moment) or abs(moment) >= 1e12:
            return True
    if math.isnan(plan.valid_until_s) or plan.valid_until_s <= plan.valid_from_s:
        return True
    if plan.valid_until_s == math.inf and not plan.repeats:
        return True
    if lamps is None:
        return False
    if len(lamps.state) != signal.link_count or any(letter not in "rRuUyYgGsoO" for letter in lamps.state):
        return True
    for times in (lamps.since_s, lamps.green_from_s, lamps.green_until_s):
        if len(times) != signal.link_count or any(math.isnan(t) for t in times):
            return True
    return math.isnan(lamps.at_s) or lamps.at_s > plan.valid_from_s


def whole(number):
    return math.isfinite(number) and number == round(number)
