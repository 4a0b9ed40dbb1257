"""`nats://` as the source of `tail`, `stats` and `explain --record`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sidecar.cli import main
from sidecar.core.settings.settings import Settings
from tests import preloaded
from tests.fleet.servers import Server, needs_nats, publish_raw, server
from tests.fleet.shipping import fleet_of, make_stream, with_fleet, with_stream
from tests.mta.processes import wait_until

pytestmark = needs_nats

TIME = 1_790_000_000


def rejection(number: int) -> dict[str, Any]:
    return {
        "type": "Rejection",
        "id": "",
        "sender": f"s{number}@x.example",
        "recipient": "a@gmail.example",
        "response": {"code": 550, "content": "relaying not permitted", "command": "RCPT TO:<a@gmail.example>"},
        "peer_address": {"name": "peer", "addr": "203.0.113.9"},
        "timestamp": TIME + number,
        "event_time": f"2026-09-21T14:13:{number % 60:02}Z",
        "meta": {"why": f"reason {number}"},
    }


def publish(made: Settings, *each: tuple[str, int], version: str = "1") -> None:
    """Publish records of nodes, as their shippers do. Without deduplication."""
    name = fleet_of(made).name

    async def work(stream: Any) -> None:
        for node, number in each:
            headers = {"Nats-Msg-Id": f"{node}/a.jsonl/{number}", "Sidecar-Record-Version": version}
            content = json.dumps(rejection(number)).encode()
            await stream.publish(f"{name}.records.{node}.Rejection", content, headers=headers)

    with_stream(made, work)


def settings_file(folder: Path, one: Server) -> Path:
    path = folder / "sidecar.toml"
    path.write_text(f'[fleet]\nservers = "{one.url}"\nnode = "reader"\n')
    return path


def sidecar(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def senders(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["sender"].partition("@")[0] for line in result.stdout.splitlines()]


def test_the_commands(tmp_path: Path) -> None:
    """The whole stream or one node, the last records, and a record that was stored twice."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made, duplicate_window=100_000_000)
        config = ["--config", str(settings_file(tmp_path, one))]
        tail = ["tail", *config, "--no-follow", "--json"]
        assert senders(sidecar(*tail, "-n", "all", "nats://")) == []
        assert senders(sidecar(*tail, "nats://")) == []
        publish(made, *(("mx1", number) for number in range(1, 31)), ("mx2", 31), ("mx2", 32))
        assert senders(sidecar(*tail, "-n", "2", "nats://")) == ["s31", "s32"]
        assert senders(sidecar(*tail, "-n", "2", "nats://mx1")) == ["s29", "s30"]
        assert senders(sidecar(*tail, "-n", "2", "--reason", "reason 2", "nats://")) == ["s28", "s29"]
        assert senders(sidecar(*tail, "-n", "all", "nats://mx2")) == ["s31", "s32"]
        wait_until(lambda: not _is_duplicate(made), "the window of the stream is over")
        all_of_them = senders(sidecar(*tail, "-n", "all", "nats://"))
        assert all_of_them == [f"s{number}" for number in range(1, 33)]

        summary = json.loads(sidecar("stats", *config, "--json", "nats://").stdout)
        assert summary["records"] == 32
        assert json.loads(sidecar("stats", *config, "--json", "nats://mx2").stdout)["records"] == 2
        # Stored now, and so among those of the last hour; their own times are older.
        assert json.loads(sidecar("stats", *config, "--json", "--since", "2026-09-21", "nats://").stdout)["records"] == 32

        explained = sidecar("explain", *config, "--json", "--record", "nats://mx2")
        assert [json.loads(line)["record"]["line"] for line in explained.stdout.splitlines()] == [31, 32]
        assert "32 answers" in sidecar("explain", *config, "--record", "nats://").stdout


def _is_duplicate(made: Settings) -> bool:
    """Publish the first record again, and return True if the stream recognises it."""
    name = fleet_of(made).name

    async def work(stream: Any) -> bool:
        headers = {"Nats-Msg-Id": "mx1/a.jsonl/1"}
        content = json.dumps(rejection(1)).encode()
        answer = await stream.publish(f"{name}.records.mx1.Rejection", content, headers=headers)
        return bool(answer.duplicate)

    return bool(with_stream(made, work))


def test_newer_records(tmp_path: Path) -> None:
    """They are named, and stay in the stream for a newer program."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        config = ["--config", str(settings_file(tmp_path, one))]
        publish(made, ("mx1", 1))
        publish(made, ("mx1", 2), version="2")
        publish(made, ("mx1", 3), version="x")
        for _ in range(2):
            result = sidecar("tail", *config, "--no-follow", "--json", "-n", "all", "nats://")
            assert senders(result) == ["s1"]
            why = 'its record version is "2", and this program reads 1: update the program'
            assert f"mx1/a.jsonl:2: {why}" in result.stderr
            assert "mx1/a.jsonl:3: " in result.stderr


_FORGED = {
    "no end of line": b"NATS/1.0",
    "no UTF-8": b"NATS/1.0 \xff\xff\xff\r\n\r\n",
    "a long line number": b"NATS/1.0\r\nNats-Msg-Id: mx1/a.jsonl/" + b"9" * 5000 + b"\r\n\r\n",
    "a long version": b"NATS/1.0\r\nSidecar-Record-Version: " + b"9" * 5000 + b"\r\n\r\n",
    "a status line": b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    "a status": b"NATS/1.0\r\nStatus: 503\r\n\r\n",
}


def test_what_a_node_forges_stops_no_reader(tmp_path: Path) -> None:
    """A node can publish any header, and any subject of its own: the records after it are read as before."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        config = ["--config", str(settings_file(tmp_path, one))]
        for number, header in enumerate(_FORGED.values(), 1):
            publish_raw(one, b"sidecar.records.mx1.Rejection", header, json.dumps(rejection(number)).encode())
        publish_raw(one, b"sidecar.records.mx1.\xff", b"NATS/1.0\r\n\r\n", json.dumps(rejection(7)).encode())
        publish(made, ("mx2", 8))
        result = sidecar("tail", *config, "--no-follow", "--json", "-n", "all", "nats://")
        assert senders(result) == ["s1", "s2", "s3", "s5", "s6", "s7", "s8"]
        assert "update the program" in result.stderr


def test_following(tmp_path: Path) -> None:
    """New records are shown as they are stored, also after the server was killed and its readers with it."""
    with server() as one:
        made = with_fleet(tmp_path, one)
        make_stream(made)
        publish(made, ("mx1", 1), ("mx1", 2))
        config = settings_file(tmp_path, one)
        arguments = [sys.executable, "-m", "sidecar", "tail", "--config", str(config), "--json", "-n", "1", "nats://"]
        output = tmp_path / "output"
        with output.open("wb") as file, preloaded.popen(arguments, stdout=file, stderr=subprocess.DEVNULL) as tail:

            def shown() -> list[str]:
                return [json.loads(line)["sender"] for line in output.read_text().splitlines()]

            try:
                wait_until(lambda: shown() == ["s2@x.example"], "the last one")
                publish(made, ("mx2", 3))
                wait_until(lambda: shown() == ["s2@x.example", "s3@x.example"], "the new one")
                one.kill()
                one.start()
                publish(made, ("mx1", 4))
                wait_until(lambda: shown()[2:] == ["s4@x.example"], "it follows again")
            finally:
                tail.kill()


@pytest.mark.parametrize(
    ("settings", "source", "said"),
    [
        ("", "nats://", "the settings have no [fleet]"),
        ("fleet", "nats://a/b", "is no source"),
        ("fleet", "nats://mx1.example", "is no source"),
        ("fleet", "nats://", "o connection to nats://127.0.0.1:1"),
    ],
)
@pytest.mark.parametrize("command", [["tail", "--no-follow"], ["stats"], ["explain", "--record"]], ids=lambda one: one[0])
def test_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], settings: str, source: str, said: str
) -> None:
    monkeypatch.setattr("sidecar.fleet.connection._CONNECT_SECONDS", 0.1)
    monkeypatch.setattr("sidecar.fleet.connection._RECONNECT_SECONDS", 0.05)
    (tmp_path / "sidecar.toml").write_text('[fleet]\nservers = "nats://127.0.0.1:1"' if settings else "")
    result = sidecar(command[0], "--config", str(tmp_path / "sidecar.toml"), *command[1:], source)
    assert (result.exit_code, said in result.stderr) == (1, True), result.output


def test_a_stream_that_is_missing(tmp_path: Path) -> None:
    with server() as one:
        result = sidecar("tail", "--config", str(settings_file(tmp_path, one)), "nats://")
        assert result.exit_code == 1
        assert "he stream sidecar_records cannot be read: stream not found" in result.stderr
