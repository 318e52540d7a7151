"""The files from which Mosquitto serves a city: who may connect, what each may say and hear, what survives a restart.

    write_broker_files(folder, units=("unit0001", ...), passwords={...}, ...)  ->  mosquitto -c folder/mosquitto.conf

Every roadside unit, every other device and the centre has a user of its own. A unit may publish what units say and
hear only what is for it; the centre may do the reverse. Devices publish under their own name alone; a gateway speaks
for many devices and hears all orders. The topics that units publish under are shared by all (`V2X.RSU.RSM.UP`), so
the broker cannot keep one unit from signing with another's name: give units certificates where that matters.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from networks import line
from networks.day_one import DOWN_KINDS, UP_KINDS, down_topic, up_topic
from networks.errors import InputError, ProcessError

CENTRE = "citytwin"
MOST_QUEUED_BYTES = 1 << 30
"""What the broker keeps for a centre that is away: about an hour of 329 units at 10 Hz and 80 bytes a message."""
_SAVE_EVERY_S = 5
_TOOLS = (Path("/usr/sbin"), Path("/usr/bin"), Path("/usr/local/sbin"), Path("/usr/local/bin"))


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files of the broker's own certificate and of the authority that signed it."""

    ca_file: Path
    cert_file: Path
    key_file: Path


def find_tool(name: str) -> Path | None:
    """A program of Mosquitto, also where the search path lacks the folders of system programs."""
    found = shutil.which(name)
    if found:
        return Path(found)
    return next((folder / name for folder in _TOOLS if (folder / name).is_file()), None)


def write_broker_files(
    folder: Path,
    *,
    units: Sequence[str] = (),
    devices: Sequence[str] = (),
    gateways: Sequence[str] = (),
    passwords: Mapping[str, str],
    port: int,
    address: str = "127.0.0.1",
    certificates: Certificates | None = None,
    run_as: str = "mosquitto",
) -> Path:
    """Write mosquitto.conf, acl and users into a folder; the path of the first.

    `devices`: loop cabinets, controllers (by the id of their signal) and the like; `gateways`: see above.
    `passwords`: of all of these and of `CENTRE`. `certificates` None: no TLS, only for a broker on the same machine.
    Raises InputError for a name without a password or one that the files cannot hold, ProcessError when the password
    tool of Mosquitto is missing or fails.
    """
    names = (CENTRE, *units, *devices, *gateways)
    for name in names:
        if name not in passwords or not passwords[name]:
            raise InputError(f"passwords: none for {name!r}")
        if not name.isprintable() or any(c in name + passwords[name] for c in ":#+/\n\r\0") or " " in name:
            raise InputError(f"user {name!r}: name or password has a character that the broker's files cannot hold")
    folder.mkdir(parents=True, exist_ok=True)
    others = (*map(_unit_rules, units), *map(_device_rules, devices), *map(_gateway_rules, gateways))
    (folder / "acl").write_text("\n\n".join([_centre_rules(units), *others]) + "\n")
    _write_users(folder / "users", {name: passwords[name] for name in names})
    lines = [
        f"listener {port} {address}",
        f"user {run_as}",
        "allow_anonymous false",
        f"password_file {folder / 'users'}",
        f"acl_file {folder / 'acl'}",
        "persistence true",
        f"persistence_location {folder}/",
        f"autosave_interval {_SAVE_EVERY_S}",
        "max_queued_messages 0",
        f"max_queued_bytes {MOST_QUEUED_BYTES}",
        "max_inflight_messages 0",
        "log_dest stderr",
    ]
    if certificates is not None:
        lines += [
            f"cafile {certificates.ca_file}",
            f"certfile {certificates.cert_file}",
            f"keyfile {certificates.key_file}",
            "tls_version tlsv1.2",
        ]
    target = folder / "mosquitto.conf"
    target.write_text("\n".join(lines) + "\n")
    return target


def _centre_rules(units: Sequence[str]) -> str:
    reads = [f"topic read {up_topic(kind)}" for kind in UP_KINDS]
    writes = [f"topic write {down_topic(kind, unit)}" for unit in units for kind in DOWN_KINDS]
    reads += [f"topic read {line.ALL_UP}"]
    writes += [f"topic write {line.ALL_DOWN}"]
    return "\n".join([f"user {CENTRE}", *reads, *writes])


def _device_rules(device: str) -> str:
    own = [f"topic write {line.own_topics(device)}", f"topic read {line.plan_topic(device)}"]
    return "\n".join([f"user {device}", *own, f"topic read {line.GUIDANCE}"])


def _gateway_rules(gateway: str) -> str:
    return "\n".join([f"user {gateway}", f"topic write {line.ALL_UP}", f"topic read {line.ALL_DOWN}"])


def _unit_rules(unit: str) -> str:
    writes = [f"topic write {up_topic(kind)}" for kind in UP_KINDS]
    reads = [f"topic read {down_topic(kind, unit)}" for kind in DOWN_KINDS]
    return "\n".join([f"user {unit}", *writes, *reads])


def _write_users(path: Path, passwords: Mapping[str, str]) -> None:
    tool = find_tool("mosquitto_passwd")
    if tool is None:
        raise ProcessError("mosquitto_passwd: not installed; it comes with Debian's package mosquitto")
    path.write_text("".join(f"{name}:{password}\n" for name, password in passwords.items()))
    path.chmod(0o600)
    done = subprocess.run([str(tool), "-U", str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        path.unlink()
        raise ProcessError(f"mosquitto_passwd: {done.stderr.strip()[:200]}")
