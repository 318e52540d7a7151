"""The numbers under which SPAT, MAP and RSI name our signals, nodes and lanes.

Own numbers: signal i is node i + 1 of its region, another node k of the network is node S + 1 + k; a phase is a set
of links that every shipped programme shows alike. Lanes count from 1 at the left of their direction, as the Chinese
message set has it (T/CSAE-53, DE_LaneID).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from networks.errors import InputError
from networks.graph import Network, Signal
from signals.formats.spat_csae53 import MOST_PHASES
from signals.formats.spat_times import shipped_groups

_MOST_NODES = 65_535


@dataclass(frozen=True, slots=True)
class SignalNumbers:
    """One signal in messages."""

    node: int
    region: int | None
    groups: tuple[int, ...]  # phase of each link, 0: not told


class Numbering:
    """Numbers of all signals of a network, both ways."""

    def __init__(self, network: Network, signals: Sequence[SignalNumbers]) -> None:
        """Raises InputError when two signals share a number or the links do not fit."""
        if len(signals) != len(network.signals):
            raise InputError(f"numbers for {len(signals)} signals, the network has {len(network.signals)}")
        for numbers, signal in zip(signals, network.signals, strict=True):
            if len(numbers.groups) != signal.link_count:
                raise InputError(
                    f"signal {signal.id!r}: phases for {len(numbers.groups)} of {signal.link_count} links"
                )
        self.signals = tuple(signals)
        self.signal_of: Mapping[tuple[int | None, int], int] = {
            (numbers.region, numbers.node): index for index, numbers in enumerate(signals)
        }
        if len(self.signal_of) != len(signals):
            raise InputError("two signals have the same region and node number")
        self._node_of = {node: n.node for n, s in zip(signals, network.signals, strict=True) for node in s.nodes}
        self._first_free = 1 + max((numbers.node for numbers in signals), default=0)
        self._region = signals[0].region if signals else None

    def node_reference(self, node: int) -> dict[str, int]:
        """NodeReferenceID of a node of the network, signalised or not. Raises InputError beyond 65535."""
        number = self._node_of.get(node, self._first_free + node)
        if number > _MOST_NODES:
            raise InputError(f"node number {number}: messages count to {_MOST_NODES}; number the signals lower")
        return ({} if self._region is None else {"region": self._region}) | {"id": number}


def own_numbering(network: Network, region: int | None = None) -> Numbering:
    return Numbering(
        network, [SignalNumbers(i + 1, region, told_phases(signal)) for i, signal in enumerate(network.signals)]
    )


def told_phases(signal: Signal) -> tuple[int, ...]:
    """Phase of each link, from 1. A message holds sixteen; of more, those of fewest links are not told (0)."""
    groups = shipped_groups(signal)
    told = [group for group, _ in Counter(groups).most_common(MOST_PHASES)]
    number = {group: n + 1 for n, group in enumerate(sorted(told))}
    return tuple(number.get(group, 0) for group in groups)
