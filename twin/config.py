"""Settings of the running program: the only reader of the environment.

Every field can be set as `CITYTWIN_<FIELD>`, e.g. `CITYTWIN_CYCLE_S=2`. Command-line options win.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from networks.errors import InputError
from twin.loop import Pace


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CITYTWIN_", frozen=True)

    cycle_s: float = Field(default=2.0, ge=1, le=60, description="seconds between control cycles")
    deadline_s: float = Field(default=4.0, gt=0, description="wall seconds a stage may take")
    forecast_every_s: float = Field(default=60.0, ge=1)
    guide_every_s: float = Field(default=15.0, ge=1)
    host: str = Field(default="127.0.0.1", description="address the page listens on")
    port: int = Field(default=8080, ge=0, le=65535, description="0 takes a free one")
    policy: Path | None = Field(default=None, description="file of priorities; see signals/policy.toml")
    runs: Path = Field(default=Path("runs"), description="folder that runs are stored in")


def read_pace(settings: Settings, *, heard_after_s: float = 0.0) -> Pace:
    """How often the loop does what. `heard_after_s`: see `Pace`."""
    return Pace(
        cycle_s=settings.cycle_s,
        forecast_every_s=settings.forecast_every_s,
        guide_every_s=settings.guide_every_s,
        deadline_s=settings.deadline_s,
        heard_after_s=heard_after_s,
    )


def read_settings() -> Settings:
    """Settings from the environment. Raises InputError naming the variable."""
    try:
        return Settings()
    except ValidationError as defect:
        first = defect.errors()[0]
        name = "CITYTWIN_" + "_".join(str(part) for part in first["loc"]).upper()
        raise InputError(f"{name}: {first['msg']}") from defect
