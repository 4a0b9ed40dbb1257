"""A private Postfix on loopback: its own settings, queue and log below one directory, gone without a trace afterwards.

Owns starting and stopping it, and reading what it delivered. Never touches the Postfix of the machine.
"""

import contextlib
import os
import pwd
import re
import signal
import smtplib
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.mta.places import free_port
from tests.mta.processes import owned, stop_group, wait_until

HOST = "127.0.0.1"

FOLDER = os.environ.get("POSTFIX", "")
"""Where a Postfix is unpacked, as tests/interop/get_postfix.sh does; without it the first one in PATH is used."""

LIFETIME = 900
"""Seconds after which a Postfix ends by itself: the longest test takes a few."""

LOG_SHOWN = 60
"""Lines of the log that go with a failure: enough for what some ten messages left there."""

# Postfix starts what it needs when it is needed; the services are those of Debian's master.cf, outside the chroot.
SERVICES = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup   unix  n       -       n       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
rewrite   unix  -       -       n       -       -       trivial-rewrite
bounce    unix  -       -       n       -       0       bounce
defer     unix  -       -       n       -       0       bounce
trace     unix  -       -       n       -       0       bounce
flush     unix  n       -       n       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
smtp      unix  -       -       n       -       -       smtp
showq     unix  n       -       n       -       -       showq
error     unix  -       -       n       -       -       error
retry     unix  -       -       n       -       -       error
virtual   unix  -       n       n       -       -       virtual
anvil     unix  -       -       n       -       1       anvil
postlog   unix-dgram n  -       n       -       1       postlogd
"""

# The directories that are user postfix's. `postfix check` would make those of the queue too; this is quicker.
OWNED = (
    *(f"queue/{name}" for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming")),
    *(f"queue/{name}" for name in ("maildrop", "private", "public", "saved", "trace")),
    *("data", "mail", "mail/cur", "mail/new", "mail/tmp"),
)

# Everything that a test wants to be otherwise comes in by `settings`.
SETTINGS = {
    "compatibility_level": "3.6",
    "myhostname": "mx.example",
    "mydomain": "example",
    "mydestination": "",
    "inet_interfaces": HOST,
    "inet_protocols": "all",
    "mynetworks": HOST,
    "alias_maps": "",
    "local_recipient_maps": "",
    "biff": "no",
    "append_dot_mydomain": "no",
    "smtputf8_enable": "yes",
    "message_size_limit": str(100 * 1024 * 1024),
    # All mail reaches the milter, which is the only relay control here. smtpd does not start without a restriction.
    "smtpd_relay_restrictions": "reject_unauth_destination",
    "relay_domains": "static:ALL",
    "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
    "smtpd_client_event_limit_exceptions": "static:all",
    "smtpd_recipient_limit": "2000",
    "smtpd_peername_lookup": "no",
    "milter_default_action": "tempfail",
    # A milter that discards would starve Postfix otherwise: nothing returns the tokens of the flow control.
    "in_flow_delay": "0s",
    # One file per recipient, below a directory that tests can read.
    "relay_transport": "virtual",
    "default_transport": "virtual",
    "local_transport": "virtual",
    "virtual_mailbox_domains": "",
    "virtual_mailbox_maps": "static:mail/",
    "virtual_mailbox_limit": "0",
}


class Postfix:
    """A context manager: within it, this Postfix answers on `port`; after it, none of its processes is left.

    `directory` must be reachable by user postfix. `milter` is in Postfix's spelling (`unix:/path`, `inet:host:port`).
    """

    def __init__(
        self,
        directory: Path,
        *,
        milter: str | None = None,
        settings: Mapping[str, str] | None = None,
        services: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self._conf = directory / "conf"
        self._settings = SETTINGS | ({"smtpd_milters": milter} if milter else {}) | dict(settings or {})
        self._services = SERVICES.format(port=self.port) + "".join(f"{line}\n" for line in services)
        self._master: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Its log file."""
        return self.directory / "data" / "postfix.log"

    def __enter__(self) -> Self:
        self._lay_out()
        master = f"{FOLDER}{default('daemon_directory')}/master"
        # -s stays in the foreground: a child can be waited for. A change of user ids takes away the signal that `owned` asked
        # for (prctl(2)), and then it is -e that ends it, should this process be killed.
        self._master = owned([master, "-c", str(self._conf), "-s", "-e", str(LIFETIME)])
        try:
            wait_until(self._answers, f"Postfix on port {self.port} answers", give_up=self._died)
        except BaseException as error:
            self.stop()
            error.add_note(self._log_text())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        if error is not None:
            error.add_note(f"log of {self._settings['myhostname']}:\n{self._log_text()}")

    def stop(self) -> None:
        """End all its processes and wait until they are gone."""
        if self._master is not None:
            stop_group(self._master, signal.SIGTERM)
            self._master = None

    def delivered(self) -> dict[str, bytes]:
        """Wait until the queue is empty, and give what was delivered since the last call: recipient -> message."""
        wait_until(self._queue_is_empty, "Postfix's queue is empty")
        found = {}
        for path in (self.directory / "mail" / "new").iterdir():
            message = path.read_bytes()
            if recipient := re.search(rb"(?m)^Delivered-To: (.+)$", message):
                found[recipient[1].decode()] = message
            path.unlink()
        return found

    def _queue_is_empty(self) -> bool:
        folders = (self.directory / "queue" / name for name in ("maildrop", "incoming", "active", "deferred", "hold"))
        return not any(_is_whole(path) for folder in folders for path in folder.rglob("*"))

    def _lay_out(self) -> None:
        """Write the settings, and make the directories."""
        owner = pwd.getpwnam("postfix")
        for name in ("conf", "queue/pid", *OWNED):
            path = self.directory / name
            path.mkdir(parents=True, mode=0o755)
            if name in OWNED:
                os.chown(path, owner.pw_uid, owner.pw_gid)
        places = {
            "queue_directory": str(self.directory / "queue"),
            "data_directory": str(self.directory / "data"),
            "maillog_file": str(self.log),
            "maillog_file_prefixes": str(self.directory),
            "virtual_mailbox_base": str(self.directory),
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            **{key: f"{FOLDER}{default(key)}" for key in ("command_directory", "daemon_directory") if FOLDER},
        }
        lines = [f"{key} = {value}\n" for key, value in (places | self._settings).items()]
        (self._conf / "main.cf").write_text("".join(lines))
        (self._conf / "master.cf").write_text(self._services)
        # Postfix waits until its settings are a while old: another program can still be writing.
        os.utime(self._conf / "main.cf", (0, 0))

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP(HOST, self.port, timeout=5) as client:
            return client.noop()[0] == 250
        return False

    def _died(self) -> str | None:
        status = self._master.poll() if self._master else None
        return None if status is None else f"Postfix ended with status {status}"

    def _log_text(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else ["(no log)"]
        return "\n".join(lines[-LOG_SHOWN:])


def _is_whole(path: Path) -> bool:
    """Return True for a queue file that is complete: Postfix then sets the bit of execution. A client may never finish one."""
    with contextlib.suppress(FileNotFoundError):
        return path.is_file() and bool(path.stat().st_mode & 0o100)
    return False


def postconf(*arguments: str, directory: Path | None = None) -> str:
    """Run postconf, on the settings of a private Postfix if `directory` is given."""
    where = () if directory is None else ("-c", str(directory / "conf"))
    program = f"{FOLDER}/usr/sbin/postconf" if FOLDER else "postconf"
    return subprocess.run([program, *where, *arguments], capture_output=True, text=True, check=True).stdout


@cache
def default(setting: str) -> str:
    """Return the value of a setting that this Postfix was built with."""
    return postconf("-dhx", setting).strip()


def version() -> tuple[int, ...]:
    """Return the version of this Postfix: 3.7.11 is (3, 7)."""
    return tuple(map(int, default("mail_version").split(".")[:2]))


def table(entries: Mapping[str, str]) -> str:
    """Write a lookup table that needs no file (Postfix's inline:)."""
    return "inline:{" + ", ".join(f"{{ {key} = {value} }}" for key, value in entries.items()) + "}"
