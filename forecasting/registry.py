"""Which artefact forecasts: a folder of models, one of them live, and the way back.

`live.json` names the live model, those that were live before it, and the candidate in its shadow. Nothing goes live
without a verdict that lets it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forecasting.artifact import SHIPPED, Artifact, load_artifact, save_artifact
from forecasting.gate import Verdict
from networks.errors import InputError

SHIPPED_NAME = "shipped"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class RefusedError(InputError):
    """A candidate did not pass the gate. `verdict` says why."""

    def __init__(self, name: str, verdict: Verdict) -> None:
        super().__init__(f"{name}: not promoted: {'; '.join(verdict.reasons)}")
        self.verdict = verdict


@dataclass(frozen=True, slots=True)
class Registry:
    folder: Path

    def names(self) -> list[str]:
        kept = sorted(p.stem for p in self.folder.glob("*.pt")) if self.folder.is_dir() else []
        return [SHIPPED_NAME, *kept]

    def path(self, name: str) -> Path:
        """Raises InputError when no model has this name."""
        if name == SHIPPED_NAME:
            return SHIPPED
        path = self.folder / f"{name}.pt"
        if not _NAME.fullmatch(name) or not path.is_file():
            raise InputError(f"model {name!r}: no such model; there are {', '.join(self.names())}")
        return path

    def load(self, name: str) -> Artifact:
        return load_artifact(self.path(name))

    def add(self, artifact: Artifact) -> Path:
        """Keep a trained model under its name, which must be free and no path."""
        self.check_name(artifact.name)
        path = self.folder / f"{artifact.name}.pt"
        save_artifact(path, artifact)
        return path

    def check_name(self, name: str) -> None:
        """Raises InputError when no own model may be called this."""
        if not _NAME.fullmatch(name) or name == SHIPPED_NAME:
            raise InputError(f"--name {name!r}: letters, digits, dot, dash, underscore; not {SHIPPED_NAME!r}")

    def live(self) -> str:
        history = self._history()
        return history[-1] if history else SHIPPED_NAME

    def promote(self, name: str, verdict: Verdict) -> None:
        """Make a model live. Raises RefusedError when the verdict does not let it."""
        self.path(name)
        if not verdict.passes:
            raise RefusedError(name, verdict)
        candidate = self.candidate()
        self._write([*self._history(), name], None if candidate == name else candidate)

    def candidate(self) -> str | None:
        """The model that runs in the shadow of the live one, if any."""
        held = self._held().get("candidate")
        return str(held) if held else None

    def try_out(self, name: str | None) -> None:
        """Let a model run in the shadow of the live one; None: nobody. Raises InputError when it does not exist."""
        if name is not None:
            self.path(name)
        self._write(self._history(), name)

    def roll_back(self) -> str:
        """Return to the model that was live before, and say which. Raises InputError when there is none."""
        history = self._history()
        if not history:
            raise InputError(f"{self.folder}: nothing to roll back: {SHIPPED_NAME!r} is live and was first")
        self._write(history[:-1], self.candidate())
        return self.live()

    def _history(self) -> list[str]:
        return [str(name) for name in self._held().get("history", [])]

    def _held(self) -> dict[str, Any]:
        path = self.folder / "live.json"
        if not path.is_file():
            return {}
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as defect:
            raise InputError(f"{path}: not readable: {defect}") from defect
        if not isinstance(held, dict) or not isinstance(held.get("history"), list):
            raise InputError(f"{path}: history: not a list of names")
        return held

    def _write(self, history: list[str], candidate: str | None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / "live.json.part"
        temporary.write_text(json.dumps({"history": history, "candidate": candidate}), encoding="utf-8")
        temporary.replace(self.folder / "live.json")
