"""A milter's socket as main.cf names it: in a chroot, every path begins in the queue directory.

Owns that spelling. Never opens a socket.
"""

from pathlib import Path

from sidecar.commands.doctor.postfix import split
from sidecar.commands.doctor.sockets import socket_of


def milter_address(word: str) -> str:
    """Take a milter's address out of `{ address, name=value }`."""
    return next(iter(split(word.strip("{} "))), "") if word.startswith("{") else word


def seen(address: str, queue: str, *, chroot: bool | None) -> list[str]:
    """Give the sockets that smtpd may mean by an address: in a chroot, every path begins in the queue directory."""
    outside = socket_of(address, Path(queue))
    found = [outside]
    if outside is not None and outside.startswith("unix:") and chroot is not False:
        inside = socket_of(f"unix:{address.partition(':')[2].lstrip('/')}", Path(queue))
        found = [inside] if chroot else [inside, outside]
    return [socket for socket in found if socket is not None]


def below_queue(listening: str, queue: str) -> str | None:
    """Give the path of a UNIX socket as a chrooted smtpd has it, None when it cannot reach that."""
    path = Path(listening.removeprefix("unix:"))
    return str(path.relative_to(queue)) if path.is_relative_to(queue) else None


def spelled(listening: str, queue: str) -> str:
    """Write the sidecar's socket as main.cf wants it."""
    if listening.startswith("unix:") and (below := below_queue(listening, queue)) is not None:
        return f"unix:{below}"
    return listening.replace("inet:0.0.0.0:", "inet:127.0.0.1:").replace("inet:[::]:", "inet:[::1]:")


def out_of_reach(listening: str, queue: str) -> tuple[str, str]:
    """Return what is wrong with a socket outside the queue directory, and what to write instead."""
    text = f"smtpd sees nothing outside {queue}, and the sidecar's socket is {listening.removeprefix('unix:')}."
    own = f'In sidecar.toml, write socket = "unix:{queue}/sidecar/sidecar.sock" below [milter]'
    return text, f"{own}, and in main.cf smtpd_milters = unix:sidecar/sidecar.sock."
