"""The composition root: a city folder becomes a running loop. Adapters and controllers are named here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from forecasting.forecasters import Graph
from forecasting.live_city import QUANTITIES, LiveCity, fit_live_city
from forecasting.live_gate import LiveModel, admit
from forecasting.registry import Registry
from forecasting.serve import Forecaster
from forecasting.street_graph import links_of
from forecasting.windows import HistoryBuffer
from networks.city import CityFolder, Detector, load_network
from networks.graph import Network
from networks.sensors import covers_approaches, find_detectors, instrumented_signals
from networks.state import DAY_S, History
from scenarios.cities import cache_folder
from scenarios.past_days import build_past
from scenarios.prior import Prior, build_prior
from signals.closures import Closures
from signals.controllers.base import Controller
from signals.controllers.max_pressure import MaxPressure
from signals.controllers.preemption import Preemption
from signals.controllers.rolling_horizon import RollingHorizon
from signals.fallback import Chain
from signals.fixed import programmes_of
from signals.guidance import RouteGuide
from signals.loop_calls import LoopCalls
from signals.priority import Policy, expect_walkers, read_policy
from twin.ahead import Ahead
from twin.crossing_sight import CrossingSight
from twin.feed_declarations import Declaration, make_formats
from twin.fusion import Fusion
from twin.inbox import Inbox
from twin.lamp_memory import read_reds
from twin.lamp_tracker import LampTracker
from twin.loop import City, Pace
from twin.mirror import Mirror
from twin.privacy import Pseudonyms
from twin.publisher import OrderPublisher, Publisher
from twin.store import Store


@dataclass(frozen=True, slots=True)
class CityModel:
    """What is made once per city and serves every run of it."""

    folder: CityFolder
    network: Network
    prior: Prior
    detectors: tuple[Detector, ...]
    instrumented: tuple[int, ...]
    policy: Policy
    past: tuple[LiveCity, ...]  # flow and speed of past days; empty for a city without demand
    forecasters: tuple[LiveModel, ...]  # through the gate, the live one first; candidates in the shadow


PAST_DAYS = 7
LAMP_MEMORY = "lamps.json"  # in the store
VERSIONS_PER_S = 1000  # plans a second at most: who begins anew numbers them above all that it said before
LEAST_PAST_DAYS = 2  # one day alone tells no usual day from an odd one


def build_model(
    folder: CityFolder, policy: Policy | None = None, *, past_days: int = PAST_DAYS, registry: Registry | None = None
) -> CityModel:
    """Read the network, derive sensors from the coverage, and prior and past days from the city's own demand
    (cached); fit forecasters on the past and put the models of the registry before the gate.

    `policy` None: the default. `registry` None: the shipped model alone. `past_days` 0: persistence alone forecasts.
    """
    network = load_network(folder)
    cache = cache_folder() / "priors"
    past = _fit_past(network, build_past(folder, network, days=past_days, cache=cache), folder.epoch_s)
    return CityModel(
        folder=folder,
        network=network,
        prior=build_prior(folder, network, cache=cache),
        past=past,
        forecasters=_forecasters(past, registry or Registry(Path())) if past else (),
        detectors=find_detectors(network, folder.coverage),
        instrumented=instrumented_signals(network, folder.coverage),
        policy=policy or read_policy(),
    )


def build_city(
    model: CityModel,
    *,
    pace: Pace,
    store: Path | None,
    mirrored: bool = True,
    guided: bool = True,
    foreseeing: bool = True,
    pseudonyms: Pseudonyms | None = None,
    declared: Sequence[Declaration] = (),
    from_s: float | None = None,
    publisher: Publisher | None = None,
    shadow: bool = False,
) -> City:
    """One live loop, its mirror started. The caller closes it. `pseudonyms` None: fresh random ones.

    `foreseeing` False: closures and rain that are announced do not change forecasts.
    `declared`: feeds in the formats of others that the inbox takes as well.
    `from_s`: epoch second at which the loop begins, None: with the city's demand. `publisher` None: one whose orders
    somebody takes. `shadow`: nothing is published.
    """
    names = pseudonyms or Pseudonyms()
    folder, network = model.folder, model.network
    zero_s = folder.epoch_s - folder.begin_s
    begun_s = folder.epoch_s if from_s is None else from_s
    mirror = start_mirror(model, begun_s, store) if mirrored else None
    crossings = CrossingSight(network, model.instrumented, expect_walkers(model.policy, network))
    horizon = RollingHorizon(network, shares=model.prior.movement_share, walkers=crossings, guesses=True)
    return City(
        network=network,
        inbox=Inbox(
            network,
            model.detectors,
            pseudonyms=names,
            formats=make_formats(declared, network, model.detectors, names),
        ),
        fusion=Fusion(network, model.detectors, model.instrumented, model.prior),
        mirror=mirror,
        history=HistoryBuffer(len(network.edges.ids)),
        forecaster=make_forecaster(model),
        ahead=Ahead(folder, network, model.prior) if foreseeing and folder.routes else None,
        crossings=crossings,
        loop_calls=None if horizon.may_lock else LoopCalls(network, model.detectors),
        controllers=(_live_controller(model, horizon), MaxPressure(network)),
        guide=RouteGuide(network) if guided else None,
        closures=Closures(network),
        lamps=LampTracker(
            network, programmes_of(network, epoch_of_zero_s=zero_s), _remembered(network, store, begun_s)
        ),
        publisher=OrderPublisher() if publisher is None else publisher,
        store=Store(store) if store is not None else None,
        pace=pace,
        shadow=shadow,
        next_version=0 if from_s is None else math.floor(VERSIONS_PER_S * from_s),
    )


def _remembered(network: Network, store: Path | None, now_s: float) -> Mapping[int, list[float]]:
    """Reds that an earlier life in the same store left."""
    return read_reds(store / LAMP_MEMORY, network, now_s) if store is not None else {}


def make_forecaster(model: CityModel) -> Forecaster:
    """What forecasts the day of the model."""
    return Forecaster(free_speed_mps(model), model.past, model.forecasters)


def on_day(folder: CityFolder, now_s: float) -> CityFolder:
    """The city with its demand at the same time of day, on the last day on which it had begun by `now_s`."""
    return replace(folder, epoch_s=folder.epoch_s + (now_s - folder.epoch_s) // DAY_S * DAY_S)


def start_mirror(model: CityModel, from_s: float, store: Path | None) -> Mirror:
    """A mirror that begins, empty, at an epoch second of the city's demand or later. The caller closes it."""
    folder = model.folder
    later_s = from_s - folder.epoch_s
    begun = replace(folder, begin_s=folder.begin_s + later_s, epoch_s=from_s)
    kept = store / "mirror" if store is not None else None
    mirror = Mirror(begun, model.network, detectors=model.detectors, kept=kept)
    mirror.start()
    return mirror


def _fit_past(network: Network, days: Sequence[History], from_s: float) -> tuple[LiveCity, ...]:
    if len(days) < LEAST_PAST_DAYS:
        return ()
    links = links_of(network)
    return tuple(fit_live_city(days, quantity, links, from_s=from_s) for quantity in QUANTITIES)


def _forecasters(past: Sequence[LiveCity], registry: Registry) -> tuple[LiveModel, ...]:
    """The live model and, where one is named, the candidate, after the gate."""
    names = [registry.live(), *([candidate] if (candidate := registry.candidate()) is not None else [])]
    models = []
    for place, name in enumerate(names):
        artifact = registry.load(name)
        models.append(admit(past, name, Graph(artifact.members, name), shadow=place > 0))
    return tuple(models)


def _live_controller(model: CityModel, horizon: RollingHorizon) -> Controller:
    """The controller within priorities; where some approach has no loops, stepping back where sensors are thin."""
    network, policy = model.network, model.policy
    followed = covers_approaches(network, model.detectors)
    return Preemption(network, horizon if followed else Chain(network, horizon), policy)


def free_speed_mps(model: CityModel) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Speed of the empty edge: the best the prior saw there, at most the limit."""
    limit = model.network.edges.speed_limit_mps
    profile = model.prior.profile
    best = np.where(profile.valid, profile.speed_mps, 0.0).max(axis=0, initial=0.0)
    return np.where(best > 1.0, np.minimum(best, limit), limit)
