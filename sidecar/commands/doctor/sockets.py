"""The sidecar's socket as an MTA names it. In a chroot, each path begins in Postfix's queue directory.

Never opens a socket.
"""

import ipaddress
from pathlib import Path

from sidecar.commands.doctor.postfix.settings import split, unbraced
from sidecar.config.readers import WrongValue
from sidecar.config.sockets import socket_in


def socket_of(address: str, folder: Path) -> str | None:
    """Return an MTA's milter address in the sidecar's spelling, or None. A relative path begins in `folder`."""
    try:
        return socket_in(folder, "a socket")(address)
    except WrongValue:
        return None


def same_socket(named: str | None, listening: str) -> bool:
    """Return True if `named` reaches `listening`, both in the sidecar's spelling.

    A host name is assumed to be right, because only the MTA's machine can look it up. If the sidecar listens on all addresses,
    each address is right.
    """
    if named is None or named == listening or named.startswith("unix:") or listening.startswith("unix:"):
        return named == listening
    (host, port), (own_host, own_port) = _split(named), _split(listening)
    if port != own_port or host == own_host:
        return port == own_port
    return _is_name(host) or _is_name(own_host) or ipaddress.ip_address(own_host).is_unspecified


def milter_address(word: str) -> str:
    """Return the address in `{ address, name=value }`."""
    return next(iter(split(unbraced(word))), "")


def reaches(address: str, listening: str, queue: str, *, chroot: bool | None) -> bool:
    """Return True if an smtpd can mean the socket `listening` by `address`. `chroot` None is unknown."""
    outside = socket_of(address, Path(queue))
    if outside is None or not outside.startswith("unix:") or chroot is False:
        return same_socket(outside, listening)
    inside = socket_of(f"unix:{address.partition(':')[2].lstrip('/')}", Path(queue))
    return same_socket(inside, listening) or (chroot is None and same_socket(outside, listening))


def below_queue(listening: str, queue: str) -> str | None:
    """Return the path of a UNIX socket as a chrooted smtpd sees it, or None if it cannot reach the socket."""
    path = Path(listening.removeprefix("unix:"))
    return str(path.relative_to(queue)) if path.is_relative_to(queue) else None


def in_main_cf(listening: str, queue: str) -> str:
    """Write the sidecar's socket as a value of main.cf."""
    if listening.startswith("unix:") and (below := below_queue(listening, queue)) is not None:
        return f"unix:{below}"
    return listening.replace("inet:0.0.0.0:", "inet:127.0.0.1:").replace("inet:[::]:", "inet:[::1]:")


def out_of_reach(listening: str, queue: str) -> tuple[str, str]:
    """Return what is wrong with a socket outside the queue directory, and what to write instead."""
    text = f"smtpd sees no file outside {queue}, and the sidecar's socket is {listening.removeprefix('unix:')}."
    fix = f'In sidecar.toml, write socket = "unix:{queue}/sidecar/sidecar.sock" below [milter]'
    return text, f"{fix}, and in main.cf smtpd_milters = unix:sidecar/sidecar.sock."


def _split(socket: str) -> tuple[str, str]:
    host, _, port = socket.removeprefix("inet:").rpartition(":")
    return host.strip("[]"), port


def _is_name(host: str) -> bool:
    return not host.replace(".", "").isdigit() and ":" not in host
