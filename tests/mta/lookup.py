"""A Postfix that looks up the domain of each sender, in a network of its own with a small DNS server.

`python -m tests.mta.lookup` needs its own network and mount namespace. It sends a complaint with each sender, and prints one
JSON object for each: the sender, the answer, whether it is as expected, and the note.
"""

import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading

from sidecar.commands.simulate.client import Target
from sidecar.commands.simulate.shapes import SHAPES
from sidecar.commands.simulate.simulation import NewRecords, Simulation
from sidecar.config import load
from sidecar.core.evaluate.evaluator import Evaluator
from tests.mta.house import house
from tests.mta.postfix import HOST

EXISTING = "drop.example"
SENDERS = (f"fbl@{EXISTING}", "fbl@missing.example")
DOMAINS = f'["{EXISTING}"]\nlog_arf = "LogThenDrop"\n'

_A, _HEADER = 1, 12
_FOUND, _MISSING = 0x8580, 0x8583  # flags of an authoritative answer; the last digit is the code (RFC 1035 section 4.1.1)


def serve_dns() -> None:
    """Answer on port 53: one domain exists, with an address of a documentation network; all others do not."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind((HOST, 53))
    while True:
        query, client = server.recvfrom(1500)
        end = query.index(b"\0", _HEADER) + 5
        question = query[_HEADER:end]
        exists = question[:-5] == b"".join(bytes([len(label)]) + label.encode() for label in EXISTING.split("."))
        has_address = exists and struct.unpack("!H", question[-4:-2])[0] == _A
        address = b"\xc0\x0c" + struct.pack("!HHIH", _A, 1, 60, 4) + bytes((192, 0, 2, 1)) if has_address else b""
        counts = struct.pack("!HHHHH", _FOUND if exists else _MISSING, 1, int(has_address), 0, 0)
        server.sendto(query[:2] + counts + question + address, client)


def main() -> None:
    """Set up the namespaces, and run all."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.NamedTemporaryFile("w") as resolver:
        resolver.write(f"nameserver {HOST}\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        threading.Thread(target=serve_dns, daemon=True).start()
        with house(domains=DOMAINS, postfix={"smtpd_sender_restrictions": "reject_unknown_sender_domain"}) as home:
            settings = load(home.sidecar.config).settings
            assert settings is not None
            [complaint] = [shape for shape in SHAPES if shape.name == "yahoo"]
            for sender in SENDERS:
                simulation = Simulation(
                    target=Target(host=HOST, port=home.postfix.port, xclient="203.0.113.9"),
                    recipients=(f"n@{EXISTING}",),
                    sender=sender,
                    token="7d0fe1a9",  # noqa: S106 - a mark, and no secret
                    evaluator=Evaluator(settings),
                    journal=NewRecords(settings.journal.directory),
                )
                result = simulation.send(complaint)
                shown = {"sender": sender, "answer": str(result.dialogue.last), "agrees": result.agrees, "note": result.note}
                sys.stdout.write(f"{json.dumps(shown)}\n")
        subprocess.run(["umount", "/etc/resolv.conf"], check=True)


if __name__ == "__main__":
    main()
