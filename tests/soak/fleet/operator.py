"""Revisions of the policy for the node, which change no answer to the traffic.

Owns the key and the files. Never waits for the node.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from click.testing import CliRunner

from sidecar.cli import main
from tests.fleet.policy.fleets import key_pair
from tests.wire.client import CONTINUE
from tests.wire.program import DOMAINS, Program

_POLICY: Final = 'relay_hosts = ["127.0.0.1", "192.0.2.0/24"]\nlistener_domains = ["domains.toml"]\n'


class Operator:
    """An operator of the fleet with these servers. `settings` are what the node needs."""

    def __init__(self, folder: Path, servers: Sequence[str]) -> None:
        key_pair(folder)
        fleet = f'[fleet]\nservers = {list(servers)}\npolicy_keys = ["{folder}/policy.key.pub"]\n'
        self.settings = f'{fleet}node = "mx1"\n'
        self._folder = folder
        (folder / "operator.toml").write_text(f'state_directory = "none"\n{fleet}node = "operator"\n')
        (folder / "policy.toml").write_text(_POLICY)
        self._number = 0

    def publish(self) -> bool:
        """Publish another revision. Return False if the servers accept none now."""
        self._number += 1
        (self._folder / "domains.toml").write_text(f'{DOMAINS}["{self._domain}"]\nlog_oob = true\n')
        words = ["publish", "--config", "operator.toml", "--key", "policy.key", "policy.toml"]
        command = [word if "." not in word else str(self._folder / word) for word in words]
        return CliRunner().invoke(main, ["fleet", *command]).exit_code == 0

    def is_served(self, program: Program) -> bool:
        """Return True if a program decides with the last revision."""
        files = (program.directory / "state" / "policy").glob("[0-9]*/domains.toml")
        # A question is a load for the node: it is asked when the revision is on its disk.
        if not any(self._domain in file.read_text() for file in files):
            return False
        with program.mta() as mta:
            mta.begin()
            return mta.envelope(b"<>", f"<x@{self._domain}>".encode()) == [CONTINUE]

    @property
    def _domain(self) -> str:
        return f"revision{self._number}.example"
