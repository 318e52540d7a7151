"""Train the graph model on many cities. A training can be stopped at any step and goes on as if nothing had been.

Everything random in a step comes from (seed, step), the length is a number of steps and never a time, and the
checkpoint holds weights, their moving average, the optimiser and the curve of the loss.

Started by torchrun, the processes train one model: each takes windows of its own and all follow the mean gradient, so
that N of them see N times the windows in a step. The first one keeps the checkpoint; all must be able to read it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from forecasting.courses import Course
from forecasting.features import window_features
from forecasting.model import GraphModel, ModelShape, deviations, pinball
from forecasting.series import STEPS_IN
from networks.errors import InputError

_WARM_UP = 200  # steps
_CHECKPOINT_EVERY = 100


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train."""

    steps: int = 8000
    seed: int = 0
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    tokens: int = 4096  # places times windows in a step
    average: float = 0.999  # of the moving average of the weights
    masked_share: float = 0.5  # of the steps hide inputs
    most_masked: float = 0.6  # share of inputs hidden, at most
    bf16: bool = False  # products in bfloat16; see `native_bf16`

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Trained:
    model: GraphModel  # averaged weights
    losses: list[float]  # of every step


def train_model(
    courses: Sequence[Course],
    shape: ModelShape,
    plan: Plan,
    *,
    checkpoint: Path | None = None,
    begin: GraphModel | None = None,
    on_resume: Callable[[int], None] = lambda _steps: None,
    on_step: Callable[[int, float], None] = lambda _step, _loss: None,
) -> Trained:
    """Train from the checkpoint, where there is one, else from the weights of `begin`, else from the beginning."""
    rank, processes = join_processes()
    torch.manual_seed(plan.seed)
    model, average = GraphModel(shape), GraphModel(shape)
    if begin is not None:
        model.load_state_dict(begin.state_dict())
    average.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True
    )
    losses: list[float] = []
    if checkpoint is not None and checkpoint.is_file():
        losses = _resume(checkpoint, model, average, optimiser, plan)
        on_resume(len(losses))
    turns = np.array([c.turns for c in courses])
    for step in range(len(losses), plan.steps):
        rng = np.random.default_rng((plan.seed, step, *([rank] if rank else [])))
        course = courses[int(rng.choice(len(courses), p=turns / turns.sum()))]
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * pace(step, plan.steps)
        loss = _loss(model, course, plan, rng)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if processes > 1:
            _share_gradients(model, processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        keep = min(plan.average, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1.0 - keep)
        losses.append(float(loss.detach()))
        on_step(step, losses[-1])
        if checkpoint is not None and rank == 0 and (step + 1) % _CHECKPOINT_EVERY == 0:
            _save(checkpoint, model, average, optimiser, losses, plan)
    if checkpoint is not None and rank == 0:
        _save(checkpoint, model, average, optimiser, losses, plan)
    average.eval()
    return Trained(average, losses)


def join_processes() -> tuple[int, int]:
    """Number of this process and how many train together; alone: (0, 1)."""
    if not dist.is_torchelastic_launched():
        return 0, 1
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    return dist.get_rank(), dist.get_world_size()


def _share_gradients(model: GraphModel, processes: int) -> None:
    parameters = [p for p in model.parameters() if p.grad is not None]
    together = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    dist.all_reduce(together)
    begin = 0
    for p in parameters:
        p.grad = together[begin : begin + p.numel()].view_as(p) / processes
        begin += p.numel()


def native_bf16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 by itself; elsewhere they are slower than float32."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def pace(step: int, steps: int) -> float:
    """Share of the learning rate: a short warm-up, then half a cosine to 1 %."""
    warm = min(1.0, (step + 1) / min(_WARM_UP, max(1, steps // 10)))
    return warm * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * step / steps)))


def _loss(model: GraphModel, course: Course, plan: Plan, rng: np.random.Generator) -> torch.Tensor:
    context = course.context
    windows = max(1, min(plan.tokens // context.nodes, len(course.starts)))
    starts = course.starts[torch.from_numpy(np.sort(rng.integers(0, len(course.starts), windows)))]
    hidden = draw_hidden(rng, windows, context.nodes, plan.most_masked) if rng.random() < plan.masked_share else None
    features = window_features(context, starts, hidden=hidden)
    with torch.autocast("cpu", torch.bfloat16, enabled=plan.bf16):
        quantiles = deviations(model, context, course.ridge, features, starts if course.cross_fitted else None)
    weight = (context.scale / context.scale.mean()).clamp(max=5.0)
    return pinball(quantiles, features.target, features.target_known.float(), weight)


def draw_hidden(rng: np.random.Generator, windows: int, nodes: int, most: float) -> torch.Tensor:
    """Inputs to hide (B, 12, N): whole places, single readings, or stretches of half a window."""
    share, kind = rng.uniform(0.0, most), rng.integers(3)
    if kind == 0:
        hidden = np.broadcast_to(rng.random((windows, 1, nodes)) < share, (windows, STEPS_IN, nodes))
    elif kind == 1:
        hidden = rng.random((windows, STEPS_IN, nodes)) < share
    else:
        hit = rng.random((windows, 1, nodes)) < share
        first = rng.integers(0, STEPS_IN - 5, (windows, 1, nodes))
        step = np.arange(STEPS_IN)[None, :, None]
        hidden = hit & (step >= first) & (step < first + STEPS_IN // 2)
    return torch.from_numpy(np.ascontiguousarray(hidden))


def _save(
    path: Path, model: GraphModel, average: GraphModel, optimiser: torch.optim.Optimizer, losses: list[float],
    plan: Plan,
) -> None:  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "model": model.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(),
        "losses": losses, "plan": plan.as_dict(), "shape": model.shape.as_dict(),
    }  # fmt: skip
    temporary = path.with_suffix(".part")
    torch.save(content, temporary)
    temporary.replace(path)


def _resume(
    path: Path, model: GraphModel, average: GraphModel, optimiser: torch.optim.Optimizer, plan: Plan
) -> list[float]:
    held = torch.load(path, weights_only=True)
    if held["plan"] != plan.as_dict() or held["shape"] != model.shape.as_dict():
        raise InputError(f"{path}: was begun with another plan or shape; take another folder or the same settings")
    model.load_state_dict(held["model"])
    average.load_state_dict(held["average"])
    optimiser.load_state_dict(held["optimiser"])
    losses: list[float] = held["losses"]
    return losses
