"""What `citytwin signals control` was asked for: options -> a checked request."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from networks.city import Coverage
from networks.errors import InputError
from networks.graph import Network
from scenarios.side_by_side import ScenarioFiles, network_of
from signals.formats.sumo import book_from_sumo
from signals.priority import Policy, expect_walkers, read_policy
from twin.commands.files import existing_files

ADAPTIVE, SHIPPED, ACTUATED, PLAN = "adaptive", "shipped", "actuated", "plan"
BESIDE = (SHIPPED, ACTUATED, PLAN)
_MOST_SEEDS = 1000


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for, checked."""

    scenario: ScenarioFiles
    network: Network
    seeds: tuple[int, ...]
    coverage: Coverage | None  # None: full detection
    policy: Policy | None
    policy_file: Path | None
    plan: Path | None
    beside: tuple[str, ...]


def read_request(
    net: Path,
    routes: str,
    begin_s: float,
    end_s: float,
    additional: str,
    seeds: str,
    seed: int | None,
    sensors: bool,
    coverage: str,
    policy: Path | None,
    plan: Path | None,
    beside: str,
) -> Request:
    """Raises InputError naming the option or the file, and what is wrong with it."""
    if not end_s > begin_s:
        raise InputError(f"--end {end_s:g} must be later than --begin {begin_s:g}")
    if coverage and not sensors:
        raise InputError(f"--coverage {coverage}: only with --sensors")
    if seeds and seed is not None:
        raise InputError("--seed and --seeds: give one of them")
    scenario = ScenarioFiles(
        network=existing_files("--net", str(net))[0],
        routes=existing_files("--routes", routes),
        additional=existing_files("--additional", additional),
        begin_s=begin_s,
        end_s=end_s,
    )
    if not scenario.routes:
        raise InputError("--routes: no demand given")
    fallback = existing_files("--plan", str(plan))[0] if plan is not None else None
    network = network_of(scenario, fallback)
    if not network.signals:
        raise InputError(f"{scenario.network}: holds no signal to control")
    if fallback is not None and not book_from_sumo(fallback).programmes:
        raise InputError(f"--plan: {fallback}: holds no programme (tlLogic)")
    terms = read_policy(policy) if policy is not None else None
    if terms is not None:
        try:
            expect_walkers(terms, network)
        except InputError as defect:
            raise InputError(f"{policy}: {defect}") from defect
    return Request(
        scenario=scenario,
        network=network,
        seeds=(seed,) if seed is not None else _seeds(seeds or "1-3"),
        coverage=_coverage(coverage) if sensors else None,
        policy=terms,
        policy_file=policy,
        plan=fallback,
        beside=_sides(beside, fallback),
    )


def _seeds(text: str) -> tuple[int, ...]:
    """ "3", "1,4" or "1-3"."""
    chosen: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else not last)):
            raise InputError(f"--seeds {text}: {part.strip()!r} is neither a number nor a range such as 1-3")
        chosen += range(int(first), min(int(last or first), int(first) + _MOST_SEEDS) + 1)
    if not chosen or len(chosen) > _MOST_SEEDS or len(set(chosen)) < len(chosen):
        raise InputError(f"--seeds {text}: from 1 to {_MOST_SEEDS} different seeds, please")
    return tuple(chosen)


def _coverage(text: str) -> Coverage:
    shares: dict[str, Any] = asdict(Coverage())
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _, value = part.partition("=")
        if name not in shares:
            raise InputError(f"--coverage: {name!r} is none of {', '.join(shares)}")
        try:
            shares[name] = float(value)
        except ValueError:
            raise InputError(f"--coverage: {name}: {value!r} is no number") from None
        if not 0.0 <= shares[name] <= 1.0:
            raise InputError(f"--coverage: {name}={value} has to be from 0 to 1")
    return Coverage(**shares)


def _sides(text: str, plan: Path | None) -> tuple[str, ...]:
    named = [part.strip() for part in text.split(",") if part.strip()]
    for name in named:
        if name not in BESIDE:
            raise InputError(f"--beside: {name!r} is none of {', '.join(BESIDE)}")
    if PLAN in named and plan is None:
        raise InputError("--beside plan: needs --plan FILE")
    return tuple(dict.fromkeys([SHIPPED, *named]))
