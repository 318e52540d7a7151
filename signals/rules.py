"""What the safety of one signal rests on, as arrays: derived once from `Signal`, for proof, transition and monitor.

Beyond the pairs of `signal.conflicts`, which may never be open together, a net knows *compatible foes*: paths that
cross or merge but that some shipped phase opens together, one yielding to the other. Two rules hold for these:

- they may show only the priorities that a shipped phase shows (G with G, or G with g), or weaker ones;
- where one has just lost its green, the other may start only after the same clearance as for a conflict, since the
  last driver of the closing stream was not expecting anybody.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from networks.graph import Bools, Floats, Signal
from signals import safety_kernels as kernels
from signals.safety_kernels import ARROW, MAJOR, MINOR, OFF, RED, YELLOW

ILLEGAL = OFF + 1  # code of a letter that no lamp has

_LETTERS = (("rRuU", RED), ("yY", YELLOW), ("g", MINOR), ("G", MAJOR), ("s", ARROW), ("oO", OFF))
_CODES = {letter: code for letters, code in _LETTERS for letter in letters}
CODE_OF_BYTE = bytes(_CODES.get(chr(byte), ILLEGAL) for byte in range(256))

_KEPT_MAX = 8192


@dataclass(frozen=True, slots=True)
class SignalRules:
    """Arrays on the K links of one signal.

    `clear_s[i, j]`: seconds from the end of green of i until j may start, 0 where i and j never meet.
    `both_major[i, j]`, `major_minor[i, j]`, `both_open[i, j]`: compatible foes that may show G and G, G on i with g
    on j, or g and g. The last is not certain: a phase may show one of them yellow whenever the other is green.
    `off_beside[i, j]`: a shipped phase leaves i off (o, O) while j is green or yellow.
    `pairs`: the matrices above as bits of one matrix, for the kernels.
    """

    conflicts: Bools  # (K, K)
    meets: Bools  # (K, K) conflict or compatible foe
    clear_s: Floats  # (K, K)
    both_major: Bools  # (K, K)
    major_minor: Bools  # (K, K)
    both_open: Bools  # (K, K)
    off_beside: Bools  # (K, K)
    pairs: NDArray[np.uint8]  # (K, K)
    yellow_s: float  # whole seconds
    min_green_s: Floats  # (K,)
    served: Bools  # (K,) some stage opens it and somebody may want it: the maximum red holds
    pedestrian: Bools  # (K,)
    max_red_s: float
    shortest_wait_s: (
        float  # what it may take to open any link from any state: a minimum green and the longest clearance
    )
    shipped_other: tuple[frozenset[str], ...]  # (K,) letters s, o, O that a shipped phase shows on the link
    digest: bytes  # of everything above


def rules_of(signal: Signal) -> SignalRules:
    """The rules of a signal; derived at the first call, then remembered as long as the process lives."""
    entry = _known.get(id(signal))
    if entry is None or entry[0] is not signal:
        if len(_known) >= _KEPT_MAX:
            _known.clear()
        entry = _known[id(signal)] = (signal, _derive(signal))
    return entry[1]


# Signals hold arrays and so cannot be hashed: kept by identity, together with the signal so that no id is reused.
_known: dict[int, tuple[Signal, SignalRules]] = {}


def encode(states: tuple[str, ...] | list[str]) -> NDArray[np.uint8]:
    """Lamp codes (S, K) of states of equal length."""
    return np.frombuffer(encode_letters("".join(states)), np.uint8).reshape(len(states), -1)


def encode_letters(letters: str) -> bytes:
    """The code of each letter, `ILLEGAL` for what no lamp has."""
    return letters.encode("latin-1", "replace").translate(CODE_OF_BYTE)


def _derive(signal: Signal) -> SignalRules:
    count = signal.link_count
    phases = encode([p.state[:count] for programme in signal.programmes for p in programme.phases])
    major, green = phases == MAJOR, (phases == MAJOR) | (phases == MINOR)
    both_major = np.einsum("pi,pj->ij", major, major) > 0
    major_minor = (np.einsum("pi,pj->ij", major, phases == MINOR) > 0) | both_major
    both_open = np.einsum("pi,pj->ij", green, green) > 0
    off_beside = np.einsum("pi,pj->ij", phases == OFF, green | (phases == YELLOW)) > 0
    conflicts = signal.conflicts | signal.conflicts.T
    compatible = (signal.foes | signal.foes.T) & ~conflicts
    yellow_s = float(np.ceil(signal.yellow_s))
    leaving_s = np.where(
        signal.pedestrian,
        np.maximum(signal.pedestrian_clearance_s, yellow_s),
        yellow_s + signal.all_red_s,
    )[:, None]
    clear_s = np.where(conflicts, np.maximum(signal.intergreen_s, yellow_s), 0.0)
    clear_s = np.where(compatible, leaving_s, clear_s)
    ends_crossing = signal.pedestrian[:, None] & conflicts
    clear_s = np.ceil(np.where(ends_crossing, np.maximum(clear_s, leaving_s), clear_s))
    wanted = signal.pedestrian | np.array([bool(m) for m in signal.link_movements], np.bool_)
    letters = [
        frozenset(p.state[k] for programme in signal.programmes for p in programme.phases) & frozenset("soO")
        for k in range(count)
    ]
    meets = conflicts | compatible
    pairs = (
        conflicts * kernels.CONFLICTS
        | meets * kernels.MEETS
        | both_major * kernels.BOTH_MAJOR
        | major_minor * kernels.MAJOR_MINOR
        | both_open * kernels.BOTH_OPEN
        | off_beside * kernels.OFF_BESIDE
    )
    rules = SignalRules(
        conflicts=conflicts,
        meets=meets,
        clear_s=clear_s,
        both_major=both_major,
        major_minor=major_minor,
        both_open=both_open,
        off_beside=off_beside,
        pairs=pairs.astype(np.uint8),
        yellow_s=yellow_s,
        min_green_s=np.ceil(signal.min_green_s),
        served=wanted & green.any(axis=0),
        pedestrian=signal.pedestrian,
        max_red_s=float(signal.max_red_s),
        shortest_wait_s=float(np.max(signal.min_green_s, initial=0.0))
        + max(float(clear_s.max(initial=0.0)), yellow_s)
        + 1.0,
        shipped_other=tuple(letters),
        digest=b"",
    )
    return replace(rules, digest=_digest(signal.id, rules))


def _digest(signal_id: str, rules: SignalRules) -> bytes:
    digest = hashlib.blake2b(signal_id.encode(), digest_size=16)
    for f in fields(rules):
        value = getattr(rules, f.name)
        if isinstance(value, np.ndarray):
            digest.update(value.tobytes())
        else:
            digest.update(repr([sorted(v) for v in value] if isinstance(value, tuple) else value).encode())
    return digest.digest()
