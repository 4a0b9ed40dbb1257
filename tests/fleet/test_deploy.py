"""The files of deploy/nats, with real servers."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # it has no types
from click.testing import CliRunner
from msgspec.structs import replace
from nats.js.api import StreamConfig

from sidecar.cli import main
from sidecar.core.settings.settings import Settings
from sidecar.fleet.connection import FleetConnection
from sidecar.fleet.policy.buckets import Buckets
from tests.fleet.certificates import make
from tests.fleet.servers import PROGRAM, needs_nats, nkey, server
from tests.fleet.shipping import FOLDER, count, fleet_of, make_stream, record, shipping, with_fleet, with_stream, write
from tests.mta.processes import wait_until

pytestmark = needs_nats

SEGMENT = "20261130-120000.000001"


def test_the_settings_are_valid(tmp_path: Path) -> None:
    """nats-server accepts them, with certificates in place."""
    ca, certificate, key = make(tmp_path)
    text = (FOLDER / "server.conf").read_text()
    for name, file in (("server.pem", certificate), ("server.key", key), ("ca.pem", ca)):
        text = text.replace(f"/etc/nats/{name}", str(file))
    (tmp_path / "server.conf").write_text(text)
    (tmp_path / "users.conf").write_text((FOLDER / "users.conf").read_text())
    assert PROGRAM
    checked = subprocess.run([PROGRAM, "-t", "-c", tmp_path / "server.conf"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "configuration file" in checked.stderr


def test_the_streams_fit(tmp_path: Path) -> None:
    """What all streams may have together fits into the store of a server."""
    (block,) = re.findall(r"(?ms)^jetstream \{.*?^\}", (FOLDER / "server.conf").read_text())
    with server(block.replace("/var/lib/nats", str(tmp_path / "store")) + "\n") as one:
        made = with_fleet(tmp_path, one)

        async def create() -> None:
            async with FleetConnection(fleet_of(made), role="test") as connection:
                for name in ("records", "suppression"):
                    config = {**json.loads((FOLDER / f"{name}.json").read_text()), "num_replicas": 1}
                    await connection.client.jetstream().add_stream(StreamConfig.from_response(config))
                await Buckets(connection.client, fleet_of(made)).create()

        asyncio.run(create())


def test_compose(tmp_path: Path) -> None:
    """It starts each server of the cluster with all files that its settings name, and as no other user can change them."""
    text = (FOLDER / "server.conf").read_text()
    services = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    assert set(services) == set(re.findall(r"nats://(\w+)\.", text))
    ca, certificate, key = make(tmp_path)
    files = {"server.pem": certificate, "server.key": key, "ca.pem": ca}
    files |= {name: tmp_path / name for name in ("server.conf", "users.conf")}
    for name, service in services.items():
        mounts = dict(one.removesuffix(":ro").split(":") for one in service["volumes"])
        assert mounts == {f"./{file}": f"/etc/nats/{file}" for file in files} | {"/var/lib/nats": "/var/lib/nats"}
        assert set(re.findall(r'"(/[^"]+)"', text)) | {"/etc/nats/server.conf", "/etc/nats/users.conf"} == set(mounts.values())
        (tmp_path / "users.conf").write_text((FOLDER / "users.conf").read_text())
        here = text
        command = service["command"]
        for file, path in files.items():
            here = here.replace(f"/etc/nats/{file}", str(path))
            command = [word.replace(f"/etc/nats/{file}", str(path)) for word in command]
        (tmp_path / "server.conf").write_text(here)
        assert PROGRAM
        subprocess.run([PROGRAM, *command, "-t"], check=True, capture_output=True)
        assert command[-2:] == ["--name", name]
        assert signal.Signals[service["stop_signal"]] is signal.SIGUSR2


def test_the_users(tmp_path: Path) -> None:
    """The node ships, the reader reads, and the example consumes each record once. It leaves a newer one for later."""
    keys = list[str]()
    for name in ("node", "reader", "admin"):
        seed, public = nkey()
        (tmp_path / name).write_text(seed)
        (tmp_path / name).chmod(0o600)
        keys.append(public)
    users = re.sub(r"\bU[A-Z0-9]{55}\b", lambda _: keys.pop(0), (FOLDER / "users.conf").read_text())
    with server(users) as one:
        made = with_fleet(tmp_path, one, credentials=tmp_path / "node")
        administrator = replace(made, fleet=replace(fleet_of(made), credentials=tmp_path / "admin", node="admin"))
        make_stream(administrator)
        write(made, SEGMENT, [record(number) for number in range(3)])
        with shipping(made):
            wait_until(lambda: count(administrator) == 3, "all is shipped")
        settings = tmp_path / "sidecar.toml"
        settings.write_text(f'[fleet]\nservers = "{one.url}"\nnode = "reader"\ncredentials = "reader"\n')
        shown = CliRunner().invoke(main, ["tail", "--config", str(settings), "--no-follow", "--json", "nats://"])
        assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == [record(number)["id"] for number in range(3)]
        consumed = tmp_path / "consumed"
        command = [sys.executable, str(FOLDER / "consumer.py"), one.url, str(tmp_path / "admin")]
        for number in (3, 4):
            with (
                consumed.open("ab") as output,
                subprocess.Popen(command, stdout=output, stderr=sys.stderr, env=os.environ) as run,
            ):
                try:
                    wait_until(lambda number=number: len(consumed.read_text().splitlines()) == number, "it prints")  # type: ignore[misc]
                    # It acknowledges what it has printed. Otherwise that is delivered again, a minute later.
                    wait_until(lambda: _pending(administrator) == 0, "it has acknowledged all")
                finally:
                    run.kill()
            write(made, SEGMENT, [record(number)])
            with shipping(made):
                wait_until(lambda number=number: count(administrator) == number + 1, "it is shipped")  # type: ignore[misc]
        assert consumed.read_text().splitlines() == [f"mx1/{SEGMENT}.jsonl/{line} Reception" for line in (1, 2, 3, 4)]
        _publish_newer(administrator)
        log = tmp_path / "log"
        with log.open("wb") as output, subprocess.Popen(command, stderr=output) as run:
            try:
                wait_until(lambda: "mx1/later/1 is of a newer version" in log.read_text(), "it is named")
                wait_until(lambda: _pending(administrator) == 1, "it is kept for later")
            finally:
                run.kill()


def _publish_newer(made: Settings) -> None:
    headers = {"Nats-Msg-Id": "mx1/later/1", "Sidecar-Record-Version": "2"}
    with_stream(made, lambda stream: stream.publish("sidecar.records.mx1.Reception", b"{}", headers=headers))


def _pending(made: Settings) -> int:
    """Return how many records the consumer has got and not acknowledged."""
    return with_stream(made, lambda stream: stream.consumer_info("sidecar_records", "warehouse")).num_ack_pending  # type: ignore[no-any-return]
