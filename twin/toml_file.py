"""A TOML file as a model."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from networks.errors import InputError
from twin.feeds.base import name_fields

M = TypeVar("M", bound=BaseModel)


def read_as(model: type[M], path: Path) -> M:
    """Raises InputError naming file and field."""
    try:
        return model.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as defect:
        raise InputError(f"{path}: cannot be read: {defect}") from None
    except tomllib.TOMLDecodeError as defect:
        raise InputError(f"{path}: not TOML: {defect}") from None
    except ValidationError as defect:
        raise InputError(f"{path}: {name_fields(defect)}") from None
