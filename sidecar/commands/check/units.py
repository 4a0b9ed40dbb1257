"""The systemd units that start the program with a settings file: the user, and what systemd permits it to write.

Owns how much of a unit is understood (systemd.unit(5), systemd.exec(5)). Never decides what is wrong.
"""

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path
from typing import Final

from msgspec import Struct

from sidecar.config import USUAL_FILE

# The first one that has a file of a name counts.
PLACES: Final = tuple(
    map(Path, ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system"))
)
_UNIT: Final = re.compile(r"sidecar[\w.@-]*\.service", re.ASCII)
_DROP_IN: Final = re.compile(r".*\.conf", re.DOTALL)
# A machine has a few, of some kB. With a template each instance has its own settings file.
_FILES_LIMIT: Final = 100
_SIZE_LIMIT: Final = 64 * 1024
_MANAGED: Final = {
    "StateDirectory": "/var/lib",
    "LogsDirectory": "/var/log",
    "CacheDirectory": "/var/cache",
    "RuntimeDirectory": "/run",
}
_PREFIXES: Final = "-@:+!|"  # systemd.service(5)

_Settings = Mapping[str, list[str]]


class Unit(Struct, frozen=True, kw_only=True):
    """A unit that starts the program as `user`. `managed` are the folders that systemd creates for it.

    `writable` are the folders that it can write to if all others are read-only (ProtectSystem=strict), otherwise None.
    """

    name: str
    user: str
    group: str | None
    groups: tuple[str, ...]
    managed: tuple[Path, ...]
    writable: tuple[Path, ...] | None


def units_of(config: Path | None) -> list[Unit]:
    """Return the units with a `User=` that start the program with this settings file; None is no file at all."""
    wanted = str(USUAL_FILE if config is None else config.absolute())
    found: dict[str, Unit] = {}
    for name in dict.fromkeys(path.name for place in PLACES for path in _files(place, _UNIT)):
        if (instance := _instance(_read(name), wanted)) is not None:
            own = name.replace("@.", f"@{instance}.")
            if (unit := _unit(own, _read(name, own), instance)) is not None:
                found.setdefault(own, unit)
    return list(found.values())


def _files(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """Return the first files of a folder by their names; none if it cannot be read."""
    try:
        return sorted(path for path in folder.iterdir() if names.fullmatch(path.name))[:_FILES_LIMIT]
    except OSError:
        return []


def _read(name: str, *others: str) -> _Settings:
    """Return the values of each key of section Service, also those of drop-ins for any of these names."""
    texts = [next((text for place in PLACES if (text := _text(place / name)) is not None), "")]
    dropped: dict[str, Path] = {}
    for folder in (place / f"{each}.d" for each in dict.fromkeys((name, *others)) for place in PLACES):
        for path in _files(folder, _DROP_IN):
            dropped.setdefault(path.name, path)
    texts += [_text(dropped[file]) or "" for file in sorted(dropped)]
    settings: dict[str, list[str]] = {}
    for key, value in chain.from_iterable(map(_service, texts)):
        # An empty value forgets those before it.
        settings[key] = [*settings.get(key, ()), value] if value else []
    return settings


def _text(path: Path) -> str | None:
    """Return a file's text; "" for what is no regular file, such as the link of a masked unit; None if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return "" if os.path.lexists(path) else None
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        return os.read(descriptor, _SIZE_LIMIT).decode("utf-8", "replace") if is_file else ""
    finally:
        os.close(descriptor)


def _service(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    for line in map(str.strip, re.sub(r"\\\n", " ", text).split("\n")):
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            yield key.strip(), value.strip()


def _instance(settings: _Settings, wanted: str) -> str | None:
    """Return the instance that starts the program with a settings file, "" for a unit that is no template, or None."""
    for command in settings.get("ExecStart", ()):
        try:
            words = shlex.split(command.lstrip(_PREFIXES))
        except ValueError:
            continue
        if "run" not in words or not any(Path(word).name == "sidecar" for word in words):
            continue
        named = next((file for option, file in pairwise(words) if option == "--config"), str(USUAL_FILE))
        named = next((word.partition("=")[2] for word in words if word.startswith("--config=")), named)
        pattern = re.sub(r"%[iI]", lambda _: "(?P<instance>[^/]+)", re.escape(named).replace(r"%%", "%"), count=1)
        pattern = re.sub(r"%[iI]", "(?P=instance)", pattern)
        if match := re.fullmatch(pattern, wanted):
            return match.groupdict().get("instance", "")
    return None


def _unit(name: str, settings: _Settings, instance: str) -> Unit | None:
    def words(key: str) -> list[str]:
        joined = " ".join(settings.get(key, ()))
        return [re.sub(r"%[iI]", lambda _: instance, word) for word in joined.split()]

    def last(key: str) -> str | None:
        return next(reversed(words(key)), None)

    if (user := last("User")) is None or last("DynamicUser") in {"yes", "true", "1", "on"}:
        return None
    managed = tuple(Path(root, each.partition(":")[0]) for key, root in _MANAGED.items() for each in words(key))
    paths = tuple(Path(each.lstrip("-+")) for each in words("ReadWritePaths"))
    return Unit(
        name=name,
        user=user,
        group=last("Group"),
        groups=tuple(words("SupplementaryGroups")),
        managed=managed,
        writable=(*managed, *paths) if last("ProtectSystem") == "strict" else None,
    )
