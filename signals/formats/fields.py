"""What every format needs: the index of a named signal, a number as people write it."""

from __future__ import annotations

from collections.abc import Mapping

from networks.errors import InputError


def index_of(signal_id: str, signal_index: Mapping[str, int]) -> int:
    if signal_id not in signal_index:
        raise InputError(f"the network has no signal {signal_id!r}")
    return signal_index[signal_id]


def number_text(value: float) -> str:
    """12 for 12.0, 12.5 for 12.5."""
    return str(int(value)) if value == int(value) else repr(value)
