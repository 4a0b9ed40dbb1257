"""Let real MTAs make the reports below tests/data/signed: `python -m tests.mta.make_signed_reports` as root, with apt at hand.

OpenDKIM (RSA) and Exim (Ed25519) sign mail that has a trace header. Postfix, Sendmail and Exim relay it to a host that rejects
it, and report that. Never edits what they wrote, but for CRLF. It makes new keys, and keeps the public ones.
"""

import base64
import json
import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from email.utils import formatdate
from pathlib import Path
from time import time

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from msgspec import Struct

from sidecar.core.proof import address, trace
from sidecar.core.proof.secret import read_secret
from sidecar.core.settings.keys import Secret
from tests import DATA, ROOT
from tests.mta.client import Connection, Peer
from tests.mta.make_reports import remote
from tests.mta.places import free_port, private_directory
from tests.mta.postfix import HOST, Postfix
from tests.mta.processes import owned, stop_group, wait_until
from tests.mta.sendmail import UNPACKED as SENDMAIL

SIGNED = DATA / "signed"
SECRET_LINE = b"the-secret-of-these-samples-is-no-secret"
SENDER = "news@bounce.sender.example"
EXIM = ROOT / ".venv" / "exim"


class Situation(Struct, frozen=True, kw_only=True):
    """Signed mail: `to` is its header, `recipients` its envelope; what OpenDKIM does, what MAIL says."""

    recipients: tuple[str, ...] = ("nobody@remote.example",)
    to: str = "nobody@remote.example"
    more: str = ""
    body: str = "Nothing happened.\n"
    canonicalization: str = "relaxed/simple"
    parameters: str = ""
    mtas: tuple[str, ...] = ("postfix", "sendmail", "exim")


SITUATIONS = {
    "plain": Situation(),
    "relaxed": Situation(canonicalization="relaxed/relaxed", body="Two  blanks,\ta tab. \n\nThe end\n\n\n"),
    "exact": Situation(canonicalization="simple/simple"),
    "two": Situation(
        recipients=("nobody@remote.example", "full@remote.example"),
        to='"Nobody, at all" <nobody@remote.example>,\n\tFull Mailbox (always) <full@remote.example>',
    ),
    "long": Situation(
        to="=?utf-8?q?N=C3=AFemand?=\n <Nobody@Remote.Example>",
        more="Cc: team@sender.example,\n other@sender.example\nSubject-Note:   odd\t blanks\n",
        canonicalization="relaxed/relaxed",
    ),
    "truncated": Situation(
        body="".join(f"{number} lines of text are more than is returned.\n" for number in range(400)),
        mtas=("postfix", "exim"),  # Sendmail returns all of it
    ),
    "header-only": Situation(parameters="RET=HDRS ENVID=week-17"),
    "eight-bit": Situation(
        more="MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n",
        body="Grüße aus Köln\n",
        parameters="BODY=8BITMIME",
        canonicalization="relaxed/relaxed",
    ),
    "ed25519": Situation(canonicalization="exim"),
}

OPENDKIM = """\
Mode s
Domain sender.example
Selector rsa
KeyFile {folder}/rsa.pem
RequireSafeKeys no
Socket inet:{port}@127.0.0.1
Canonicalization {canonicalization}
OversignHeaders From
InternalHosts 0.0.0.0/0
Syslog no
"""

SENDMAIL_CF = """\
divert(-1)
include(`{unpacked}/usr/share/sendmail/cf/m4/cf.m4')
divert(0)dnl
OSTYPE(`linux')
define(`QUEUE_DIR', `{directory}')
define(`confPID_FILE', `{directory}/pid')
define(`ALIAS_FILE', `')
define(`STATUS_FILE', `')
define(`HELP_FILE', `')
define(`confDELIVERY_MODE', `interactive')
define(`confTO_IDENT', `0s')
define(`SMART_HOST', `esmtp:[127.0.0.1]')
define(`ESMTP_MAILER_ARGS', `TCP $h {port}')
FEATURE(`no_default_msa')
FEATURE(`accept_unresolvable_domains')
FEATURE(`nocanonify')
FEATURE(`promiscuous_relay')
MAILER(`smtp')
"""

EXIM_CONF = """\
primary_hostname = mx.sender.example
spool_directory = {directory}/spool
exim_path = {directory}/exim
log_file_path = {directory}/log-%s
acl_smtp_rcpt = rcpt
keep_environment =
bounce_return_size_limit = 2K
dsn_advertise_hosts = *
begin acl
rcpt:
  accept
    control = dkim_disable_verify
begin routers
all:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = smtp
begin transports
smtp:
  driver = smtp
  port = {port}
  hosts_try_fastopen =
  {signing}
"""
EXIM_SIGNS = """dkim_domain = sender.example
  dkim_selector = ed
  dkim_private_key = {directory}/ed.pem
  dkim_hash = sha256
  dkim_timestamps = 604800"""


def content(name: str, situation: Situation, secret: Secret, now: float) -> bytes:
    """The mail, with its trace header."""
    identifier = f"<{name}-{int(now)}@sender.example>"
    value = trace.trace(secret, now, message_id=identifier, sender=SENDER, recipients=situation.recipients)
    head = (
        f"From: News <news@sender.example>\nTo: {situation.to}\nSubject: The news of the week\n"
        f"Date: {formatdate(now)}\nMessage-ID: {identifier}\n{trace.NAME}: {value}\n{situation.more}"
    )
    return f"{head}\n{situation.body}".replace("\n", "\r\n").encode()


def send(postfix: Postfix, sender: str, recipients: Sequence[str], message: bytes, parameters: str = "") -> None:
    with Connection(postfix.port, Peer(helo="app.sender.example", listener=f"{HOST}:25")) as connection:
        connection.say(f"MAIL FROM:<{sender}> {parameters}".rstrip())
        for recipient in recipients:
            connection.say(f"RCPT TO:<{recipient}>")
        connection.content(message)


@contextmanager
def opendkim(folder: Path, canonicalization: str, *, lines: str = "") -> Iterator[int]:
    port = free_port()
    settings = folder / "opendkim.conf"
    settings.write_text(OPENDKIM.format(folder=folder, port=port, canonicalization=canonicalization) + lines)
    process = owned(["opendkim", "-f", "-x", str(settings)])
    try:
        yield port
    finally:
        stop_group(process, signal.SIGKILL)


def signed(directory: Path, situation: Situation, message: bytes) -> bytes:
    """Return the mail as OpenDKIM signs it in Postfix, with the Received field of that Postfix."""
    name = situation.canonicalization.replace("/", "-")
    with opendkim(directory, situation.canonicalization) as port:
        settings = {"myhostname": "app.sender.example", "milter_default_action": "tempfail"}
        with Postfix(directory / name, milter=f"inet:{HOST}:{port}", settings=settings) as postfix:

            def sent() -> bool:
                with Connection(postfix.port, Peer(helo="app.sender.example")) as connection:
                    return connection.say(f"MAIL FROM:<{SENDER}>").code == 250

            wait_until(sent, "OpenDKIM answers")
            send(postfix, SENDER, ["copy@copies.example"], message, situation.parameters.replace("RET=HDRS ENVID=week-17", ""))
            found = postfix.delivered()["copy@copies.example"]
    directory.joinpath(name).rename(directory / f"{name}-{os.urandom(4).hex()}")
    # The first lines are those of the delivery to a mailbox.
    return re.sub(rb"(?m)\A(?:(?:Return-Path|X-Original-To|Delivered-To):.*\n)+", b"", found).replace(b"\n", b"\r\n")


class _Piped(smtplib.SMTP):
    """A client of an MTA that speaks SMTP on its standard input."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        super().__init__(HOST, local_hostname="app.sender.example", timeout=60)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        del host, port
        self._end.settimeout(timeout)
        return self._end


def speak(command: Sequence[str], sender: str, situation: Situation, message: bytes) -> None:
    """Hand the mail to an MTA that speaks SMTP on its standard input."""
    ours, theirs = socket.socketpair()
    with ours, subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
        theirs.close()
        with _Piped(ours) as client:
            client.sendmail(sender, situation.recipients, message, mail_options=situation.parameters.split())
        process.wait(60)  # not 0 if it reported an error


def by_sendmail(directory: Path, port: int) -> Callable[[str, Situation, bytes], None]:
    folder = directory / "sendmail"
    folder.mkdir(mode=0o700)
    text = SENDMAIL_CF.format(unpacked=SENDMAIL, directory=folder, port=port)
    cf = subprocess.run(["m4"], input=text.encode(), capture_output=True, check=True).stdout
    (folder / "sendmail.cf").write_bytes(cf)
    program = f'hostname mx.sender.example; exec "{SENDMAIL}/usr/libexec/sendmail/sendmail" -bs -C {folder}/sendmail.cf'
    command = ["unshare", "--uts", "sh", "-c", program]
    return lambda sender, situation, message: speak(command, sender, situation, message)


def by_exim(directory: Path, port: int, *, signing: bool) -> Callable[[str, Situation, bytes], None]:
    folder = directory / f"exim{'-signing' * signing}"
    (folder / "spool").mkdir(parents=True, mode=0o755)
    subprocess.run(["chown", "-R", "4321:4321", folder], check=True)
    signs = EXIM_SIGNS.format(directory=directory) if signing else ""
    (folder / "exim.conf").write_text(EXIM_CONF.format(directory=folder, port=port, signing=signs))
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + "Debian-exim:x:4321:4321::/nonexistent:/bin/false\n")
    (folder / "group").write_text(Path("/etc/group").read_text() + "Debian-exim:x:4321:\n")
    program = (
        f"mount --bind {folder}/passwd /etc/passwd; mount --bind {folder}/group /etc/group;"
        f"exec {folder}/exim -C {folder}/exim.conf -odi -bs"
    )
    command = ["unshare", "--mount", "sh", "-c", program]
    (library,) = {path.parent for path in EXIM.rglob("libidn.so.12")}
    # Exim starts itself again, with an empty environment.
    (folder / "exim").write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={library} exec {EXIM}/usr/sbin/exim4 "$@"\n')
    (folder / "exim").chmod(0o755)
    return lambda sender, situation, message: speak(command, sender, situation, message)


def keys(directory: Path) -> dict[str, str]:
    """Make the keys; return the public ones as the files of a folder, one in each form."""
    subprocess.run(["openssl", "genrsa", "-out", directory / "rsa.pem", "2048"], check=True, stderr=subprocess.DEVNULL)
    pem = subprocess.check_output(["openssl", "pkey", "-in", directory / "rsa.pem", "-pubout"], text=True)
    private = Ed25519PrivateKey.generate()
    (directory / "ed.pem").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "ed.pem").chmod(0o644)
    public = base64.b64encode(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    return {
        "rsa._domainkey.sender.example.pem": pem,
        "ed._domainkey.sender.example.txt": f"v=DKIM1; k=ed25519; p={public}\n",
    }


def main() -> None:
    """Make every report, and write it over the one that was there."""
    secret = read_secret(SECRET_LINE)
    assert isinstance(secret, Secret)
    subprocess.run([Path(__file__).with_name("get_exim.sh"), EXIM], check=True)
    now = time()
    with ExitStack() as stack:
        directory = stack.enter_context(private_directory(below="/run"))
        shutil.rmtree(SIGNED, ignore_errors=True)
        SIGNED.mkdir()
        for name, text in keys(directory).items():
            (SIGNED / name).write_text(text)
        other = stack.enter_context(remote(directory / "remote", free_port()))
        home_settings = {
            "myhostname": "mx.sender.example",
            "relay_transport": f"smtp:[{HOST}]:{other.port}",
            "default_transport": f"smtp:[{HOST}]:{other.port}",
            "smtp_discard_ehlo_keywords": "dsn",
            "bounce_size_limit": "2000",
            "notify_classes": "",
        }
        home = stack.enter_context(Postfix(directory / "home", settings=home_settings))

        def by_postfix(sender: str, situation: Situation, message: bytes) -> None:
            send(home, sender, situation.recipients, message, situation.parameters)

        mtas = {
            "postfix": by_postfix,
            "sendmail": by_sendmail(directory, other.port),
            "exim": by_exim(directory, other.port, signing=False),
        }
        signer = by_exim(directory, other.port, signing=True)
        made: dict[str, dict[str, object]] = {}
        for name, situation in SITUATIONS.items():
            message = content(name, situation, secret, now)
            if situation.canonicalization == "exim":
                signer(SENDER, Situation(recipients=("copy@copies.example",)), message)
                wait_until(lambda: any((other.directory / "mail" / "new").iterdir()), "the signed copy has arrived")
                copy = other.delivered()["copy@copies.example"]
                message = re.sub(rb"(?m)\A(?:(?:Return-Path|X-Original-To|Delivered-To):.*\n)+", b"", copy)
                message = message.replace(b"\n", b"\r\n")
            else:
                message = signed(directory, situation, message)
            tagged = address.tagged(SENDER, secret, now)
            for mta in situation.mtas:
                mtas[mta](tagged, situation, message)
                wait_until(
                    lambda: any(b"report" in path.read_bytes() for path in (other.directory / "mail" / "new").iterdir()),
                    f"{mta} has reported {name}",
                )
                report = other.delivered()[tagged]
                (SIGNED / f"{mta}-{name}.eml").write_bytes(report)
                made[f"{mta}-{name}"] = {"recipient": tagged, "reported": list(situation.recipients)}
                sys.stdout.write(f"{mta}-{name}.eml: {len(report)} bytes\n")
    (SIGNED / "made.json").write_text(json.dumps({"now": int(now), "secret": SECRET_LINE.decode(), "reports": made}, indent=1))


if __name__ == "__main__":
    main()
