"""Readers of single values: they return the checked value, or raise WrongValue.

Owns types and ranges. Never knows the key or its place.
"""

import re
from collections.abc import Callable
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from sidecar.core.findings import ErrorCode
from sidecar.core.networks import EVERY_ADDRESS, HostBitsError, parse_network
from sidecar.core.settings.values import LogMode, Network
from sidecar.core.text import listed, nearest, quoted, shown

# In its common form, RFC 9562 section 4.
_UUID: Final = "[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"

# KumoMTA's durations: numbers with units one after the other, or a zero.
_UNITS: Final = (
    "nanos|nsec|ns|micros|usec|us|\u00b5s|millis|msec|ms|seconds|second|secs|sec|s|minutes|minute|mins|min|m|hours|hour|hrs|hr|h|"
    "days|day|d|weeks|week|wks|wk|w|months|month|M|years|year|yrs|yr|y"
)
_DURATION: Final = re.compile(rf"\s*(?:0|(?>(?:\d+(?:\.\d+)?\s*(?:{_UNITS})(?![^\W\d])\s*)+))", re.ASCII)

T = TypeVar("T")
Reader = Callable[[object], T]


class Fault(Struct, frozen=True, kw_only=True):
    """What is wrong with a value, or with the item at `index` of a list, and what to write."""

    code: ErrorCode
    text: str
    fix: str
    index: int | None = None


class WrongValue(Exception):  # noqa: N818 - the value is what is wrong, and `raise wrong(...)` reads so
    """A wrong value. A list can have several faults."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(faults)
        self.faults = faults


def wrong(text: str, fix: str, code: ErrorCode = "invalid_value") -> WrongValue:
    """Return the exception for a single fault."""
    return WrongValue(Fault(code=code, text=text, fix=fix))


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise wrong(f"{shown(value)} is neither true nor false.", "Write true or false, without quotes.", "wrong_type")
    return value


def whole_number(low: int, high: int, unit: str) -> Reader[int]:
    """Read a whole number of `unit` from `low` to `high`."""

    def read(value: object) -> int:
        fix = f"Write a whole number of {unit} from {low} to {high}."
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong(f"{shown(value)} is not a whole number.", fix, "wrong_type")
        if not low <= value <= high:
            raise wrong(f"{shown(value)} is out of range.", fix, "out_of_range")
        return value

    return read


def text(what: str) -> Reader[str]:
    """Read a text that is not empty and has no control characters; `what` names it in errors."""

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise wrong(f"{shown(value)} is not {what}.", f"Write {what} in quotes.", "wrong_type")
        # Lone surrogates, which JSON can hold and UTF-8 cannot, are not printable either.
        if not value or not value.isprintable():
            raise wrong(f"{shown(value)} is not {what}.", f"Write {what}, not empty and without control characters.")
        return value

    return read


def path_in(folder: Path, what: str) -> Reader[Path]:
    """Read a path, which begins in `folder` if it is relative; `what` names it in errors."""
    read = text(what)
    return lambda value: folder / read(value)


def choice(*words: str) -> Reader[str]:
    """Read one of `words`."""

    def read(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise _not_one_of(value, words)

    return read


def _not_one_of(value: object, words: tuple[str, ...], *others: str) -> WrongValue:
    """Return the exception for a value that is neither one of `words` nor of `others`, which have no quotes."""
    guess = nearest(value, words) if isinstance(value, str) else None
    every = listed([*map(quoted, words), *others])
    return wrong(f"{shown(value)} is not one of {every}.", f"Write {quoted(guess) if guess else 'one of these'}.")


def list_of(item: Reader[T], example: str) -> Reader[tuple[T, ...]]:
    """Read a list. Each wrong item is a separate fault."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise wrong(f"{shown(value)} is not a list.", f"Write a list, such as {example}.", "wrong_type")
        items: list[T] = []
        faults: list[Fault] = []
        for index, one in enumerate(value):
            try:
                items.append(item(one))
            except WrongValue as error:
                faults += [replace(fault, index=index) for fault in error.faults]
        if faults:
            raise WrongValue(*faults)
        return tuple(items)

    return read


def one_or_more(item: Reader[T], example: str) -> Reader[tuple[T, ...]]:
    """Read a list, or one item as a list of one."""
    read = list_of(item, example)
    return lambda value: (item(value),) if isinstance(value, str) else read(value)


_LOG_MODES: Final[dict[object, LogMode]] = {
    **{mode.value: mode for mode in LogMode},
    True: LogMode.LOG_THEN_RELAY,
    False: LogMode.IGNORE,
}


def log_mode(value: object) -> LogMode:
    """Read KumoMTA's LogReportDisposition: one of three words, or a bool."""
    if isinstance(value, (str, bool)) and (mode := _LOG_MODES.get(value)) is not None:
        return mode
    raise _not_one_of(value, tuple(mode.value for mode in LogMode), "true", "false")


def network(value: object) -> Network:
    """Return an IP literal or a strict CIDR block: no host bits, no short forms, no netmasks, no zone."""
    if not isinstance(value, str):
        raise wrong(f"{shown(value)} is not a network.", 'Write it in quotes, such as "192.168.1.0/24".', "wrong_type")
    try:
        return parse_network(value)
    except HostBitsError as error:
        fault = f"{shown(value)} has host bits set: {error.host} is one address inside {error.network}."
        fix = f'Write "{error.network}" for the network or "{error.host}" for the one host.'
        raise wrong(fault, fix, "host_bits_set") from None
    except ValueError:
        fix = 'Write an address or a network in full, such as "192.168.1.7", "192.168.1.0/24" or "2001:db8::/32".'
        raise wrong(f"{shown(value)} is neither an IP address nor a network.", fix) from None


def networks(value: object) -> tuple[Network, ...]:
    """Read a list of networks; KumoMTA's word `any` is every IPv4 and every IPv6 address."""
    return tuple(chain.from_iterable(_NETWORK_LIST(value)))


def _networks_of(value: object) -> tuple[Network, ...]:
    return EVERY_ADDRESS if value == EVERY_ADDRESS[0].text else (network(value),)


_NETWORK_LIST: Final = list_of(_networks_of, '["127.0.0.1", "192.168.1.0/24"]')


def header_name(value: object) -> str:
    """Read the name of a header field (RFC 5322 section 2.2), or a prefix and a `*`; return it in lower case."""
    if not isinstance(value, str) or not re.fullmatch(r"[!-)+-9;-~]{1,76}\*?|\*", value):
        raise wrong(f"{shown(value)} is not the name of a header.", 'Write a name such as "Subject", or "X-*" for many.')
    return value.lower()


def header_names(value: object) -> tuple[str, ...]:
    """Read a list of names of header fields; return each once, in lower case."""
    return tuple(dict.fromkeys(list_of(header_name, '["Subject"]')(value)))


def uuid(value: object) -> str:
    """Read a UUID; return it in lower case."""
    if not isinstance(value, str) or not re.fullmatch(_UUID, value):
        fix = "Leave node_id out to have one made, or write one such as 0f1c9b1e-52a4-4d43-9b1f-6a1f5f1a7c11 in quotes."
        raise wrong(f"{shown(value)} is not a UUID.", fix)
    return value.lower()


def unused_duration(value: object) -> None:
    """Check KumoMTA's ttl, a text such as "5 minutes" or a number of seconds, and drop it."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value) and value >= 0
    if not is_number and not (isinstance(value, str) and _DURATION.fullmatch(value)):
        raise wrong(f"{shown(value)} is not a duration.", "Remove ttl: it has no effect.")
