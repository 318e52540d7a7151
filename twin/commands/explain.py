"""`citytwin signals explain STORE`: why signals were switched, and how well the decisions foresaw what happened."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from networks.city import load_network
from networks.errors import InputError
from networks.graph import Network
from scenarios.cities import find_city
from signals.expectations import (
    HORIZON_S,
    Approaches,
    Expectation,
    Expectations,
    Observation,
    Outcome,
    approaches_of,
    observation_of,
)
from twin.archive import Archive, StoredDecision, open_store
from twin.commands.answers import answering

_CYCLES_AT_ONCE = 100
_COLUMNS = ("edge_flow_vps", "edge_flow_vps_valid", "lane_queue_veh", "lane_queue_veh_valid")


def explain(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="History folder of a run.")],
    net: Annotated[str, typer.Option("--net", "-n", help="The city of the run: a folder or a bundled city.")],
    signal: Annotated[str, typer.Option(help="List the decisions of this signal.")] = "",
    last: Annotated[int, typer.Option(min=1, help="How many decisions to list, newest last.")] = 20,
    horizon_s: Annotated[
        float, typer.Option("--horizon", min=1.0, help="Seconds that decisions looked ahead.")
    ] = HORIZON_S,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Hold what decisions expected against what happened; with --signal also say the reason of each."""
    with answering():
        network = load_network(find_city(net))
        if signal and signal not in network.signal_index:
            raise InputError(f"the network has no signal {signal!r}")
        with open_store(store) as archive:
            kept, outcomes, decisions = _replay(archive, network, horizon_s, signal)
        names = [signal] if signal else [s.id for s in network.signals]
        rows = {name: kept.statistics(network.signal_index[name]) for name in names}
        rows = {name: row for name, row in rows.items() if row.decisions or name == signal}
        listed = [_decision(d, outcomes.get((d.cycle, d.version))) for d in decisions[-last:]]
        if as_json:
            document = {
                "store": str(store),
                "horizon_s": horizon_s,
                "signals": {name: _finite(asdict(row)) for name, row in rows.items()},
                "decisions": listed,
            }
            typer.echo(json.dumps(document, ensure_ascii=False))
            return
        console = Console()
        title = f"Happened less expected, over {horizon_s:g} s: vehicles served, vehicle-seconds waited"
        headings = ("signal", "n", "seen", "expected", "bias", "MAE", "in 95 %", "wait bias", "wait MAE")
        table = Table(*headings, title=title)
        for name, r in rows.items():
            numbers = (r.expected_veh, r.served_bias_veh, r.served_mae_veh, 100 * r.within_frac)
            waited = (r.waited_bias_veh_s, r.waited_mae_veh_s)
            table.add_row(escape(name), str(r.decisions), str(r.seen), *(_text(v) for v in (*numbers, *waited)))
        console.print(table)
        for row in listed:
            console.print(escape(_sentence(row)), soft_wrap=True)


def _replay(
    archive: Archive, network: Network, horizon_s: float, signal: str
) -> tuple[Expectations, dict[tuple[int, int], Outcome], list[StoredDecision]]:
    """The bookkeeper after the whole history; outcomes and decisions of the one signal asked for."""
    kept = Expectations(len(network.signals), horizon_s=horizon_s)
    outcomes: dict[tuple[int, int], Outcome] = {}
    listed: list[StoredDecision] = []
    keys: dict[Expectation, tuple[int, int]] = {}
    by_cycle: defaultdict[int, list[StoredDecision]] = defaultdict(list)
    for decision in archive.decisions():
        by_cycle[decision.cycle].append(decision)
    for cycle, observation in _observations(archive, network, approaches_of(network)):
        for outcome in kept.observed(observation):
            if outcome.expected in keys:
                outcomes[keys[outcome.expected]] = outcome
        expectations = []
        for d in by_cycle.pop(cycle, ()):
            if not 0 <= d.plan.signal < len(network.signals):
                raise InputError(f"the history is of another city: a decision for signal {d.plan.signal}")
            expected = Expectation(d.plan.signal, observation.at_s, d.served_veh, d.cost_veh_s)
            if d.served_veh or d.cost_veh_s or d.next_best_veh_s:  # all zero: a change of stage was only completed
                expectations.append(expected)
            if d.junction == signal:
                listed.append(d)
                keys[expected] = (d.cycle, d.version)
        kept.decided(expectations)
    return kept, outcomes, listed


def _observations(archive: Archive, network: Network, approaches: Approaches) -> Iterator[tuple[int, Observation]]:
    cycles = archive.cycles()
    for start in range(0, len(cycles), _CYCLES_AT_ONCE):
        part = cycles[start : start + _CYCLES_AT_ONCE]
        rows = archive.query(
            f"select cycle, now_s, {', '.join(_COLUMNS)} from states where cycle between ? and ? order by cycle",
            [part[0], part[-1]],
        )
        for row in rows.to_pylist():
            flow, flow_valid, queue, queue_valid = (np.array(row[name]) for name in _COLUMNS)
            if len(flow) != len(network.edges.ids) or len(queue) != len(network.lanes.ids):
                raise InputError(f"the history is of another city: {len(flow)} edges, not {len(network.edges.ids)}")
            yield (
                row["cycle"],
                observation_of(
                    row["now_s"], flow, flow_valid.astype(np.bool_), queue, queue_valid.astype(np.bool_), approaches
                ),
            )


def _decision(decision: StoredDecision, outcome: Outcome | None) -> dict[str, Any]:
    row = {
        "at_s": decision.approved_at_s,
        "signal": decision.junction,
        "controller": decision.plan.source,
        "reason": decision.plan.reason,
        "expected_veh": decision.served_veh,
        "expected_veh_s": decision.cost_veh_s,
        "next_best_veh_s": decision.next_best_veh_s,
        "served_veh": math.nan if outcome is None else outcome.served_veh,
        "waited_veh_s": math.nan if outcome is None else outcome.waited_veh_s,
    }
    return _finite(row)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}


def _sentence(row: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(row["at_s"], UTC).strftime("%H:%M:%S")
    happened = "not seen to its end"
    if row["served_veh"] is not None:
        happened = f"{row['served_veh']:.0f} served, {row['waited_veh_s']:.0f} veh s waited"
    expected = (
        f"expected {_text(row['expected_veh'])} veh, {_text(row['expected_veh_s'])} veh s "
        f"(next best {_text(row['next_best_veh_s'])})"
    )
    return f"{moment} {row['controller']}: {row['reason']} | {expected} | {happened}"


def _text(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.1f}"
