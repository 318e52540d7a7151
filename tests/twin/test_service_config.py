"""A file of a service is read whole, or refused by the name of what is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from networks.errors import InputError
from twin.service_config import read_key, read_service

PLAIN = """
city = "zone"
signing_key_file = "keys/plans.key"
[broker]
host = "broker.example"
port = 8883
username = "citytwin"
password_file = "password"
ca_file = "/etc/ca.pem"
[broadcast]
units = { J17 = "unit0001" }
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "service.toml"
    path.write_text(text)
    return path


def test_paths_count_from_the_file_and_secrets_stay_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("word\n")
    config = read_service(written(tmp_path, PLAIN))
    assert config.control == "shadow", "nothing is sent unless somebody asked for it"
    assert config.city == "zone"
    assert config.signing_key_file == tmp_path / "keys/plans.key"
    address = config.address()
    assert (address.host, address.port, address.password) == ("broker.example", 8883, "word")
    assert address.ca_file == Path("/etc/ca.pem")


def test_a_city_beside_the_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "zone").mkdir()
    assert read_service(written(tmp_path, PLAIN)).city == str(tmp_path / "zone")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('city = "zone"', "", "city"),
        ('city = "zone"', 'city = "zone"\ncontrol = "on"', "control"),
        ('city = "zone"', 'city = "zone"\npages = 1', "unknown field"),
        ("port = 8883", "port = 70000", "broker.port"),
        ('password_file = "password"', 'password = "word"', "broker.(unknown field)"),
        ("[broadcast]", "[broadcast", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(InputError) as refused:
        read_service(written(tmp_path, PLAIN.replace(old, new)))
    assert "service.toml" in str(refused.value)
    assert named in str(refused.value)


def test_secrets_that_are_missing_or_could_be_guessed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"broker\.password_file"):
        read_service(written(tmp_path, PLAIN)).address()
    (tmp_path / "short").write_text("1234\n")
    with pytest.raises(InputError, match=r"signing_key_file.*4 bytes"):
        read_key(tmp_path / "short", "signing_key_file")
