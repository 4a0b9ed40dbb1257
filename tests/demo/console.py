"""`make demo-console`: play the demonstration, and keep its sidecar with its console running until Ctrl-C."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from msgspec import Struct

from tests.demo.__main__ import missing
from tests.demo.play import play_in
from tests.demo.scenes import DOMAINS, RELAY_HOSTS
from tests.mta.house import House, house
from tests.mta.places import free_port, private_directory

TOKENS: Final = {"reader": "the-reader-of-the-demo-can-look-around", "operator": "the-operator-of-the-demo-can-change-all"}
_PORT: Final = 8894


class Demo(Struct, frozen=True, kw_only=True):
    """A running demonstration, and the address of its console."""

    home: House
    address: str


@contextmanager
def demo(port: int, more: str = "") -> Iterator[Demo]:
    """Play the demonstration. Yield it with its console on a port; `more` are sections of its settings."""
    with private_directory() as folder:
        files = {role: folder / role for role in TOKENS}
        for role, file in files.items():
            file.touch(mode=0o600)
            file.write_text(f"{TOKENS[role]}\n")
        tokens = ", ".join(f'{role} = "{file}"' for role, file in files.items())
        settings = (
            f'bounce_classifier = ["iana"]\n[admin]\nsocket = "inet:127.0.0.1:{port}"\nconsole = true\n'
            f"tokens = {{ {tokens} }}\n[suppression]\n{more}"
        )
        with house(domains=DOMAINS, relay_hosts=RELAY_HOSTS, settings=settings) as home:
            for _ in play_in(home):
                pass
            yield Demo(home=home, address=f"http://127.0.0.1:{port}")


def is_taken(port: int) -> bool:
    """Return True if a program listens on this port."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def main() -> int:
    """Keep it running until a signal ends it, and return the exit status."""
    if why_not := missing():
        print(why_not)  # noqa: T201 - the output of a command
        return 1
    # The children inherit a blocked signal, so it must not be blocked here: nothing could end them.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    port = _PORT if len(sys.argv) < 2 else int(sys.argv[1]) or free_port()
    if is_taken(port):
        print(f"Another program listens on 127.0.0.1:{port}, perhaps this demonstration: end that first.")  # noqa: T201
        return 1
    with suppress(KeyboardInterrupt), demo(port) as running:
        print(f"The console: {running.address}/\nToken of the operator: {TOKENS['operator']}", flush=True)  # noqa: T201
        print(f"Token of the reader: {TOKENS['reader']}\nCtrl-C ends it.", flush=True)  # noqa: T201
        while True:
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
