"""A trained model as one file: weights, shape, what it was trained on, and how it scored.

It is written by torch and read with `weights_only`, so that a file from elsewhere can hold numbers but no code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from forecasting.features import EXTRA, LINEAR
from forecasting.model import GraphModel, ModelShape
from networks.errors import InputError

FORMAT = 2
SHIPPED = Path(__file__).parent / "models" / "shipped.pt"


@dataclass(frozen=True, slots=True)
class Artifact:
    """`members` are trained alike from different seeds; their mean is the forecast."""

    name: str
    members: list[GraphModel]
    trained_on: list[dict[str, Any]]  # name, fingerprint, licence, rows of each series
    plan: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        return sum(p.numel() for m in self.members for p in m.parameters())

    def summary(self) -> dict[str, Any]:
        return {
            "name": self.name, "members": len(self.members), "parameters": self.parameters,
            "trained_on": self.trained_on, "plan": dict(self.plan), "scores": dict(self.scores),
        }  # fmt: skip


def save_artifact(path: Path, artifact: Artifact) -> None:
    """Write in one go: a reader sees the old file or the new one."""
    content = {
        "format": FORMAT,
        "features": [LINEAR, EXTRA],
        "name": artifact.name,
        "shape": artifact.members[0].shape.as_dict(),
        "members": [m.state_dict() for m in artifact.members],
        "trained_on": artifact.trained_on,
        "plan": dict(artifact.plan),
        "scores": dict(artifact.scores),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    torch.save(content, temporary)
    temporary.replace(path)


def load_artifact(path: Path) -> Artifact:
    """Raises InputError naming the file when it is no artefact of this version."""
    if not path.is_file():
        raise InputError(f"{path}: no such model")
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path}: not a readable model: no archive of torch")
    try:
        held = torch.load(path, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as defect:
        raise InputError(f"{path}: not a readable model: {str(defect).splitlines()[0]}") from defect
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        found = held.get("format") if isinstance(held, dict) else type(held).__name__
        raise InputError(f"{path}: format is {found}, this version reads {FORMAT}")
    if held["features"] != [LINEAR, EXTRA]:
        raise InputError(
            f"{path}: features: trained on {held['features']} numbers, this version reads {[LINEAR, EXTRA]}"
        )
    members = []
    for weights in held["members"]:
        model = GraphModel(ModelShape(**held["shape"]))
        model.load_state_dict(weights)
        members.append(model.eval())
    return Artifact(held["name"], members, held["trained_on"], held["plan"], held["scores"])
