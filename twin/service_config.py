"""What `citytwin serve` runs on: one file, paths relative to it.

city = "../cities/yizhuang"         # a bundled city or a city folder
control = "shadow"                  # plans are shown and stored; "live": they are sent as well
feeds = "feeds.toml"                # feeds in the formats of others, see twin.feed_declarations
store = "history"                   # folder of what was received, decided and answered
record = "recordings"               # folder for a log of all frames, for citytwin replay; none without it
models = "models"                   # own forecast models
policy = "policy.toml"              # priorities, see signals/policy.toml
secret_file = "pseudonyms.key"      # so that pseudonyms outlive a restart; fresh ones without it
signing_key_file = "plans.key"      # plans are signed with it (networks.messages.sign_plan)

[broker]
host = "broker.example"
port = 8883
client_id = "citytwin"
username = "citytwin"
password_file = "password"          # its first line; passwords never stand in this file
ca_file = "ca.pem"                  # TLS; without it only for a broker on the same machine

[page]                              # page = false: none
host = "127.0.0.1"
port = 8080                         # 0 takes a free one

[broadcast]                         # SPAT, MAP and RSI for roadside units
units = { J17 = "unit0001" }        # signal: the unit that stands there
region = 7
closing_event = 501                 # GB/T 29100 code under which closures are told; none told without it
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from networks.errors import InputError
from twin.mqtt import BrokerAddress
from twin.toml_file import read_as

P = TypeVar("P", bound=BaseModel)

LEAST_KEY_BYTES = 16


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Broker(_Part):
    host: str = Field(min_length=1)
    port: int = Field(default=1883, gt=0, le=65_535)
    client_id: str = Field(default="citytwin", min_length=1)
    username: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


class Page(_Part):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65_535)


class Telling(_Part):
    units: dict[str, str]
    region: int | None = Field(default=None, ge=0, le=65_535)
    closing_event: int | None = Field(default=None, ge=0, le=65_535)


class ServiceConfig(_Part):
    """Paths are absolute once read."""

    city: str
    broker: Broker
    control: Literal["shadow", "live"] = "shadow"
    feeds: Path | None = None
    store: Path | None = None
    record: Path | None = None
    models: Path = Path("models")
    policy: Path | None = None
    secret_file: Path | None = None
    signing_key_file: Path | None = None
    page: Page | Literal[False] = Page()
    broadcast: Telling | None = None

    def address(self) -> BrokerAddress:
        """Raises InputError when the password cannot be read."""
        told = self.broker
        password = None
        if told.password_file is not None:
            password = next(iter(read_secret(told.password_file, "broker.password_file").decode().splitlines()), "")
        return BrokerAddress(
            told.host, told.port, told.client_id, told.username, password, told.ca_file, told.cert_file, told.key_file
        )


def read_service(path: Path) -> ServiceConfig:
    """Raises InputError naming file and field."""
    config = read_as(ServiceConfig, path)
    base = path.resolve().parent
    folder = base / config.city
    city = str(folder) if folder.is_dir() else config.city
    return _rooted(config, base).model_copy(update={"city": city, "broker": _rooted(config.broker, base)})


def read_secret(path: Path, field: str) -> bytes:
    """The bytes of a file, less the line break at their end. Raises InputError naming the field that named it."""
    try:
        return path.read_bytes().rstrip(b"\r\n")
    except OSError as defect:
        raise InputError(f"{field}: {path}: {defect.strerror or defect}") from None


def read_key(path: Path, field: str) -> bytes:
    """As `read_secret`; raises InputError for a key that could be guessed too."""
    key = read_secret(path, field)
    if len(key) < LEAST_KEY_BYTES:
        raise InputError(f"{field}: {path}: {len(key)} bytes, a key has {LEAST_KEY_BYTES} or more")
    return key


def _rooted(part: P, base: Path) -> P:
    """The same with its relative paths below a folder."""
    return part.model_copy(update={name: base / value for name, value in part if isinstance(value, Path)})
