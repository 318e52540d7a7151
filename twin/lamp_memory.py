"""Since when lamps have been red, kept on disk for whoever begins anew after a crash: controllers go on counting."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from networks.graph import Network
from signals.lamps import RED, LampRecord

OLD_S = 600.0  # a memory older than this says nothing about reds


def keep_reds(path: Path, network: Network, records: Sequence[LampRecord | None], now_s: float) -> None:
    """Write beside, then rename: a reader never meets half a file. Raises OSError."""
    reds = {
        signal.id: [since if lamp == RED else None for lamp, since in zip(r.state, r.since_s.tolist(), strict=True)]
        for signal, r in zip(network.signals, records, strict=True)
        if r is not None
    }
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps({"at_s": now_s, "network": network.fingerprint, "red_since_s": reds}))
    beside.replace(path)


def read_reds(path: Path, network: Network, now_s: float) -> Mapping[int, list[float]]:
    """By signal: since when each link was red, NaN where it was not. Empty without a memory that can be used."""
    try:
        document = json.loads(path.read_text())
        if document["network"] != network.fingerprint or not 0.0 <= now_s - document["at_s"] <= OLD_S:
            return {}
        reds = {
            network.signal_index[name]: [math.nan if since is None else float(since) for since in links]
            for name, links in document["red_since_s"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {i: since for i, since in reds.items() if len(since) == network.signals[i].link_count}
