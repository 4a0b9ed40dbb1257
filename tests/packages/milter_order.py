"""Postfix with all milters of the guide, in its order: the sidecar, rspamd, OpenDKIM, OpenDMARC.

`python -m tests.packages.milter_order` needs its own network and mount namespace, where the ports of the guide are
free and no query for a name leaves the machine. It prints one JSON object, with the sidecar as the "first" and as the "last"
milter: for each message the reply, the types of the records, their dispositions, and the marks of the filters in what was
delivered.
"""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests import ROOT
from tests.deploy.documents import Document
from tests.mta.client import EXTERNAL, Peer
from tests.mta.house import House
from tests.mta.lookup import serve_dns
from tests.mta.mails import OOB, ORDINARY
from tests.mta.places import private_directory
from tests.mta.postfix import HOST, Postfix
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sidecar import Sidecar

GUIDE = Document(ROOT / "deploy/postfix/README.md")
DOMAINS = """\
["bounce.example"]
log_oob = "LogThenDrop"
["relay.example"]
log_oob = "LogThenRelay"
["open.example"]
relay_to = true
"""
# rspamd rejects a message with this text, which exists for tests.
SPAM = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
SPAM_REPORT = OOB.replace(b"This is a report.", SPAM)

RSPAMD = {
    "override.d/worker-proxy.inc": 'bind_socket = "127.0.0.1:11332";\ncount = 1;\n'
    'upstream "local" { default = yes; self_scan = yes; }\n',
    "override.d/worker-normal.inc": "enabled = false;\n",
    "override.d/worker-controller.inc": "enabled = false;\n",
    "override.d/options.inc": 'gtube_patterns = "all";\n',
    # These ask services on the Internet.
    **{f"local.d/{module}.conf": "enabled = false;\n" for module in ("rbl", "fuzzy_check", "asn")},
}
OPENDKIM = """\
Mode sv
Domain send.example
Selector test
KeyFile {folder}/key.pem
RequireSafeKeys no
Socket inet:8891@127.0.0.1
AuthservID mx.example
Syslog no
"""
OPENDMARC = """\
PublicSuffixList /usr/share/publicsuffix/public_suffix_list.dat
IgnoreHosts {folder}/ignored
Socket inet:8893@127.0.0.1
AuthservID mx.example
TrustedAuthservIDs mx.example
Syslog no
"""
MARKS = (b"DKIM-Signature: v=1;", b"d=send.example", b"dkim=none", b"dmarc=none")
RELAY_HOST = Peer(address="127.0.0.1:4444")
OUTGOING = ORDINARY.replace(b"somebody@peer.example.net", b"news@send.example")


@contextmanager
def filters(folder: Path) -> Iterator[None]:
    """Run the three filters."""
    folder.mkdir()
    for name, text in RSPAMD.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    shutil.chown(folder, "_rspamd", "_rspamd")
    subprocess.run(["openssl", "genrsa", "-out", folder / "key.pem", "2048"], check=True, stderr=subprocess.DEVNULL)
    (folder / "opendkim").write_text(OPENDKIM.format(folder=folder))
    (folder / "ignored").write_text("192.0.2.99\n")
    (folder / "opendmarc").write_text(OPENDMARC.format(folder=folder))
    variables = [f"--var={variable}={folder}" for variable in ("LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR")]
    with ExitStack() as stack:
        for command in (
            ["rspamd", "-f", "-u", "_rspamd", "-g", "_rspamd", *variables],
            ["opendkim", "-f", "-x", str(folder / "opendkim")],
            ["opendmarc", "-f", "-c", str(folder / "opendmarc")],
        ):
            process = owned(command)
            # Two of them need seconds to stop.
            stack.callback(stop_group, process, signal.SIGKILL)
        yield


def milters(*, sidecar_first: bool) -> str:
    """Return the value of smtpd_milters in the guide, or with the sidecar at its end."""
    (block,) = (fence.text for fence in GUIDE.fences() if fence.section == "Beside other milters")
    (command,) = (shlex.split(line) for line in block.replace("\\\n", "").splitlines())
    value = " ".join(command[-1].removeprefix("smtpd_milters = ").split())
    own, _, others = value.partition("} ")
    return value if sidecar_first else f"{others} {own}}}"


def main() -> None:
    """Start everything, and send each message."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.NamedTemporaryFile("w") as resolver, private_directory() as directory:
        resolver.write(f"nameserver {HOST}\n")
        resolver.flush()
        subprocess.run(["mount", "--bind", resolver.name, "/etc/resolv.conf"], check=True)
        threading.Thread(target=serve_dns, daemon=True).start()
        with filters(directory / "filters"):
            results = {place: played(directory / place, sidecar_first=place == "first") for place in ("first", "last")}
        sys.stdout.write(f"{json.dumps(results)}\n")


def played(folder: Path, *, sidecar_first: bool) -> dict[str, dict[str, object]]:
    """Send all messages through a Postfix with the filters that run, and a sidecar of its own."""
    queue = folder / "queue"
    queue.mkdir(parents=True)
    with (
        Sidecar(queue / "sidecar", domains=DOMAINS) as sidecar,
        Postfix(folder, milter=milters(sidecar_first=sidecar_first)) as postfix,
    ):
        home = House(postfix=postfix, sidecar=sidecar)
        wait_until(lambda: accepts(home), "all milters answer")
        return {name: offered(home, *message) for name, message in MESSAGES.items()}


def accepts(home: House) -> bool:
    with suppress(ConnectionError):
        return home.offer("news@send.example", ["x@elsewhere.example"], OUTGOING, peer=RELAY_HOST).last.code == 250
    return False


MESSAGES = {
    "a relay host's mail": (RELAY_HOST, "news@send.example", "x@elsewhere.example", OUTGOING),
    "a bounce report": (EXTERNAL, "", "b-1@bounce.example", OOB),
    "a bounce report that quotes spam, dropped": (EXTERNAL, "", "b-1@bounce.example", SPAM_REPORT),
    "a bounce report that quotes spam, relayed": (EXTERNAL, "", "b-1@relay.example", SPAM_REPORT),
    "mail to a bounce domain": (EXTERNAL, "a@peer.example.net", "b-1@bounce.example", ORDINARY),
    "mail to an open domain": (EXTERNAL, "a@peer.example.net", "x@open.example", ORDINARY),
    "spam to an open domain": (EXTERNAL, "a@peer.example.net", "x@open.example", ORDINARY + SPAM + b"\n"),
}


def offered(home: House, peer: Peer, sender: str, recipient: str, content: bytes) -> dict[str, object]:
    """Send a message, and return what a test compares."""
    outcome = home.offer(sender, [recipient], content, peer=peer)
    delivered = next(iter(outcome.delivered.values()), b"")
    return {
        "reply": str(outcome.last).partition(": queued")[0],
        "records": [record["type"] for record in outcome.records],
        "dispositions": sorted({record["meta"]["disposition"] for record in outcome.records}),
        "marks": [mark.decode() for mark in MARKS if mark in delivered],
    }


if __name__ == "__main__":
    main()
