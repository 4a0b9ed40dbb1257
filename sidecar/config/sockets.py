"""The sections [milter] and [admin]: where the program listens, and the tokens that HTTP asks for.

Owns their keys and the forms of a socket. Never listens.
"""

import hashlib
import ipaddress
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, get_args

from sidecar.config.findings import Kind
from sidecar.config.readers import Reader, choice, flag, text, whole_number, wrong
from sidecar.config.secrets import read_secret_file
from sidecar.config.tables import Table
from sidecar.core.names import HIGHEST_PORT, endpoint, normal_domain, plain_address
from sidecar.core.settings.values import AdminSettings, AdminToken, MilterSettings, Role, Source
from sidecar.core.text import quoted, shown
from sidecar.machine import addresses_of

_ROLES: Final[tuple[Role, ...]] = get_args(Role)
_LOCAL: Final = "Listen on 127.0.0.1, [::1] or a UNIX socket."
_SOCKET = re.compile(
    r"(?P<unix>unix|local):(?P<path>.+)"
    r"|inet6?:(?:(?P<host>\[[^\[\]@]+\]|[^\[\]:@]+):(?P<port>\d{1,5})|(?P<sendmail_port>\d{1,5})@(?P<sendmail_host>[^@]+))",
    re.ASCII,
)
_SOCKET_FORMS = 'Write "unix:/run/sidecar/sidecar.sock" or "inet:127.0.0.1:8893".'
_SOCKET_PATH_LIMIT = 107  # sun_path has 108 bytes on Linux, with its closing NUL (unix(7))


def socket_in(folder: Path, what: str) -> Reader[str]:
    """Read a socket in Postfix's or Sendmail's spelling; return `unix:/path` or `inet:host:port`.

    A relative path starts in `folder`. `what` names the socket in errors.
    """

    def read(value: object) -> str:
        match = _SOCKET.fullmatch(value) if isinstance(value, str) and value.isprintable() else None
        if match is None:
            bare_path = isinstance(value, str) and value.startswith("/")
            fix = f"Write {quoted(f'unix:{value}')}." if bare_path else _SOCKET_FORMS
            raise wrong(f"{shown(value)} is not {what}.", fix)
        if match["unix"]:
            path = folder / match["path"]
            if len(bytes(path)) > _SOCKET_PATH_LIMIT:
                fix = f"Write a path of {_SOCKET_PATH_LIMIT} bytes at most."
                raise wrong(f"{shown(str(path))} is too long for a socket.", fix)
            return f"unix:{path}"
        host, port = match["host"] or match["sendmail_host"], int(match["port"] or match["sendmail_port"])
        if not 1 <= port <= HIGHEST_PORT:
            raise wrong(f"{shown(value)} has port {port}.", f"Write a port from 1 to {HIGHEST_PORT}.", "out_of_range")
        return f"inet:{_socket_host(host.strip('[]'))}:{port}"

    return read


def _socket_host(host: str) -> str:
    try:
        address = plain_address(host)
    except ValueError:
        if (name := normal_domain(host)) is None or name.replace(".", "").isdigit():
            raise wrong(f"{shown(host)} is neither an IP address nor a host name.", _SOCKET_FORMS) from None
        return name
    return endpoint(address, None)


def socket_mode(value: object) -> int:
    """Read a file mode in octal digits, in quotes."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise wrong(f"{shown(value)} is not a file mode.", 'Write octal digits in quotes, such as "0660".')
    return int(value, 8)


_MILTER_READERS: Final[dict[str, Reader[Any]]] = {
    "workers": whole_number(1, 64, "processes"),
    "engine": choice("libmilter", "direct"),
    "cpu_affinity": flag,
    "allow_remote": flag,
}


def _socket_readers(folder: Path, what: str) -> dict[str, Reader[Any]]:
    return {
        "socket": socket_in(folder, what),
        "socket_mode": socket_mode,
        "socket_owner": text("a user name"),
        "socket_group": text("a group name"),
    }


def read_milter(table: Table, folder: Path) -> MilterSettings:
    """Read the section [milter]. A relative path starts in `folder`."""
    milter = MilterSettings(**table.only(_socket_readers(folder, "a milter socket") | _MILTER_READERS))
    if not milter.allow_remote and is_remote(milter.socket):
        fact = (
            f"Other machines can reach {milter.socket}. The milter protocol has no passwords and no encryption: a host that "
            "reaches the socket can ask what is accepted, and can fill the journal."
        )
        fix = f"{_LOCAL} If a firewall admits only the MTA, write allow_remote = true below [milter]."
        table.fault("remote_socket", "socket", fact, fix)
    return milter


_NO_LOGIN: Final = Kind(
    "no_effect",
    "No one can log in to the console, because there is no token.",
    'Write tokens = {{ operator = "FILE" }} below [admin]. The file has 32 or more characters, and only its owner can read it.',
)


def read_admin(table: Table, folder: Path, sources: list[Source], *, milter: str) -> AdminSettings:
    """Read the section [admin]. A relative path starts in `folder`; `milter` is the socket of the milter.

    The files of tokens become `sources`.
    """
    named = table.table("tokens", fix='Write tokens = { reader = "FILE", operator = "FILE" }.')
    tokens = tuple(_tokens(named, folder, sources))
    admin = AdminSettings(**table.only(_socket_readers(folder, "a socket") | {"console": flag}), tokens=tokens)
    if is_remote(admin.socket):
        fact = f"Other machines can reach {admin.socket}, and a host that reaches it can ask for the policy."
        fix = f"{_LOCAL} For other hosts, put a web server with access control in front."
        table.fault("remote_socket", "socket", fact, fix)
    elif _same_place(admin.socket) == _same_place(milter):
        fact = f"The milter already listens on {milter}."
        table.fault("conflict", "socket", fact, "Write another port or path for one of them.")
    if admin.console and not tokens:
        table.findings.warn(_NO_LOGIN, table.where("console"))
    return admin


def _tokens(table: Table, folder: Path, sources: list[Source]) -> Iterator[AdminToken]:
    files = table.only({role: text("a token file") for role in _ROLES})
    roles: dict[str, Role] = {}
    for role in _ROLES:
        file = files.get(role)
        found = None if file is None else read_secret_file(table, table.where(role), file, folder, sources)
        if file is None or found is None:
            continue
        digest = hashlib.sha256(found.key).hexdigest()
        if (other := roles.setdefault(digest, role)) != role:
            fault = f"The token in {shown(file)} is that of the {other}, too."
            table.fault("conflict", role, fault, "Make another one with `sidecar keys make FILE`, and name it here.")
        yield AdminToken(role=role, file=folder / file, digest=digest)


def is_remote(socket: str) -> bool:
    """Return True if other machines can reach `unix:/path` or `inet:host:port`.

    A host name is looked up, and all its addresses count. An unknown host name cannot be listened on.
    """
    kind, _, where = socket.partition(":")
    if kind == "unix":
        return False
    host = where.rpartition(":")[0].strip("[]")
    try:
        return not plain_address(host).is_loopback
    except ValueError:
        return any(not ipaddress.ip_address(address).is_loopback for address in addresses_of(host))


def _same_place(socket: str) -> str:
    # The path without symbolic links, or the port: whether two addresses overlap depends on the machine.
    kind, _, where = socket.partition(":")
    return os.path.realpath(where) if kind == "unix" else where.rpartition(":")[2]
