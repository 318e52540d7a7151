"""A cycle as text: one line a movement, one column a second (or more, in long cycles)."""

from __future__ import annotations

from collections.abc import Sequence

from networks.graph import Programme
from signals.formats.legs import Leg, LinkUse
from signals.lamps import GREEN, YELLOW

_SIGNS = {"G": "█", "g": "▒", "y": "/", "r": "·", "o": "○"}
LEGEND = "█ protected green  ▒ green that gives way  / yellow  · red  ○ flashing, off or stop and go"


def cycle_text(programme: Programme, uses: Sequence[LinkUse], legs: Sequence[Leg], *, most_columns: int = 100) -> str:
    """Lines for links that always show the same are joined; without phases an empty text."""
    if not programme.phases:
        return ""
    cycle_s = programme.cycle_s
    column_s = max(1.0, -(-cycle_s // most_columns))
    marks_s = [n * column_s for n in range(int(-(-cycle_s // column_s)))]
    rows = [_state_at(programme, at_s) for at_s in marks_s]
    lines: dict[tuple[str, str], list[int]] = {}
    for use in uses:
        if use.turns:
            side = legs[use.leg].name if use.leg >= 0 else "?"
            signs = "".join(_sign(state[use.link]) for state in rows)
            lines.setdefault((f"{side} {'+'.join(use.turns)}", signs), []).append(use.link)
    label_width = max((len(name) for name, _ in lines), default=0)
    ruler = "".join(f"{marks_s[n]:<10g}" for n in range(0, len(marks_s), 10))[: len(marks_s)]
    text = [f"{'':{label_width}} {ruler} s"]
    text += [f"{name:{label_width}} {signs}  {','.join(map(str, links))}" for (name, signs), links in lines.items()]
    return "\n".join(text)


def _sign(lamp: str) -> str:
    kind = lamp if lamp in GREEN else "y" if lamp in YELLOW else "r" if lamp in "rRuU" else "o"
    return _SIGNS[kind]


def _state_at(programme: Programme, at_s: float) -> str:
    for phase in programme.phases:
        if at_s < phase.duration_s:
            return phase.state
        at_s -= phase.duration_s
    return programme.phases[-1].state
