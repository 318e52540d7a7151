"""What is planned at a time: mostly one signal, several where too little lies between them to plan each alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from networks.graph import Bools, Floats, Int64s, Ints, Network
from signals.controllers.coupled_signals import (
    ROOM_GUESSED_VEH,
    ROOM_KNOWN_VEH,
    Knots,
    find_knots,
    find_pairs,
    join_models,
)
from signals.controllers.junction_choice import JunctionModel
from signals.controllers.unsure_turns import with_twins
from signals.lamps import LampRecord


@dataclass(frozen=True, slots=True)
class Unit:
    """One signal, or several a few vehicles apart."""

    signals: tuple[int, ...]
    model: JunctionModel
    twin_of: Int64s  # (K,) see `unsure_turns`
    stream_of: Int64s  # (M,) of each movement of these signals
    knots: Knots | None

    def streams(self, movement: Ints, sure: Bools | None) -> Int64s:
        """Stream of vehicles that take these movements, its twin where that is not `sure`; None: it is of all."""
        stream = self.stream_of[movement]
        return stream if sure is None else np.where(sure, stream, self.twin_of[stream])


class PlannedUnits:
    """All units of a network, and each of its signals alone."""

    def __init__(
        self,
        network: Network,
        models: Sequence[JunctionModel],
        shares: Floats | None,
        least_open_frac: float,
        *,
        guesses: bool,
    ) -> None:
        """See `RollingHorizon`."""

        def unit(signals: tuple[int, ...], model: JunctionModel, knots: Knots | None = None) -> Unit:
            driven = np.flatnonzero(model.movement >= 0)
            stream_of = np.full(len(network.movements.turn), -1, np.int64)
            stream_of[model.movement[driven]] = driven
            return Unit(signals, *with_twins(model, network, shares, least_open_frac), stream_of, knots)

        self._alone = [unit((i,), model) for i, model in enumerate(models)]
        pairs = find_pairs(network, models)
        paired = {i for pair in pairs for i in pair}
        self._units = [u for u in self._alone if u.signals[0] not in paired]
        room_veh = ROOM_GUESSED_VEH if guesses else ROOM_KNOWN_VEH
        for i, j in pairs:
            joint = join_models(network, models[i], models[j])
            knots = find_knots(network, joint, network.signals[i].link_count, room_veh)
            self._units.append(unit((i, j), joint, knots))

    @property
    def may_lock(self) -> bool:
        """Two close signals can get into each other's way."""
        return any(unit.knots is not None for unit in self._units)

    def seen(self, lamps: Sequence[LampRecord | None]) -> Iterator[tuple[Unit, list[LampRecord]]]:
        """What is planned now, with its lamps: signals together as far as the lamps of all of them are known."""
        for unit in self._units:
            whole = all(lamps[i] is not None for i in unit.signals)
            for part in (unit,) if whole else (self._alone[i] for i in unit.signals):
                records = [record for i in part.signals if (record := lamps[i]) is not None]
                if records and len(part.model.lanes):
                    yield part, records
