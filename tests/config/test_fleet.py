"""The sections [fleet] and [[webhook]]: their keys, and who can read their files."""

from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.config.fleet import default_node
from sidecar.core.settings.fleet import FleetSettings, WebhookSettings
from tests.config.helpers import MAIN, load_files, place, settings_of

SEED = "SU" + "A" * 56
CA = "-----BEGIN CERTIFICATE-----\n"
LOCAL = '[fleet]\nservers = "nats://127.0.0.1"\n'
HOOK = '[[webhook]]\nname = "crm"\nurl = "https://a.example/x?y=1"\nsecret_file = "secret"\n'


def with_files(folder: Path) -> None:
    for name, content in {"creds": SEED, "secret": "0123456789abcdef" * 4, "ca.pem": CA, "empty": "x"}.items():
        (folder / name).write_text(content)
        (folder / name).chmod(0o600)


def test_without_the_sections(tmp_path: Path) -> None:
    found = settings_of(tmp_path, {MAIN: ""})
    assert (found.fleet, found.webhook) == (None, ())


def test_every_key(tmp_path: Path) -> None:
    with_files(tmp_path)
    text = 'name = "prod"\nnode = "mx-1"\ncredentials = "creds"\ntls_ca = "ca.pem"\n'
    urls = '["tls://a.example", "nats://[::1]:4333/"]'
    found = settings_of(tmp_path, {MAIN: f"[fleet]\nservers = {urls}\n{text}{HOOK}types = ['OOB']\ntls_ca = 'ca.pem'"})
    servers = ("tls://a.example:4222", "nats://[::1]:4333")
    credentials, ca, secret = (tmp_path / name for name in ("creds", "ca.pem", "secret"))
    assert found.fleet == FleetSettings(servers=servers, name="prod", node="mx-1", credentials=credentials, tls_ca=ca)
    url = "https://a.example/x?y=1"
    assert found.webhook == (WebhookSettings(name="crm", url=url, secret_file=secret, types=("OOB",), tls_ca=ca),)


def test_the_files_are_sources(tmp_path: Path) -> None:
    """A changed file is loaded as after SIGHUP."""
    with_files(tmp_path)
    sources = load_files(tmp_path, {MAIN: f"{LOCAL}credentials = 'creds'\ntls_ca = 'ca.pem'\n{HOOK}"}).sources
    assert {source.path.name for source in sources} == {MAIN, "creds", "ca.pem", "secret"}


def test_the_default_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No two host names have the same node: none has an underscore."""
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"nodename": "mx-1.example.com"}))
    assert default_node() == "mx-1_example_com"
    found = settings_of(tmp_path, {MAIN: LOCAL}).fleet
    assert found
    assert found.node == "mx-1_example_com"


@pytest.mark.parametrize(
    ("text", "code", "line", "key", "said"),
    [
        ("[fleet]", "missing_key", 1, "fleet", "[fleet] has no servers."),
        ("[fleet]\nservers = []", "missing_key", 2, "fleet.servers", "The list is empty."),
        ("[fleet]\nservers = 1", "wrong_type", 2, "fleet.servers", "1 is not a list."),
        ("[fleet]\nservers = ['http://a']", "invalid_value", 2, "fleet.servers", "is not the URL of a NATS server."),
        ("[fleet]\nservers = ['nats://']", "invalid_value", 2, "fleet.servers", "is not the URL of a NATS server."),
        ("[fleet]\nservers = ['nats://a:x']", "invalid_value", 2, "fleet.servers", "is not a URL."),
        ("[fleet]\nservers = ['nats://[x']", "invalid_value", 2, "fleet.servers", "is not a URL."),
        ("[fleet]\nservers = ['nats://u:p@a']", "invalid_value", 2, "fleet.servers", "The URL has a user or a password."),
        ("[fleet]\nservers = ['nats://a/b']", "invalid_value", 2, "fleet.servers", "has a path."),
        (f"{LOCAL}node = 'mx1.example'", "invalid_value", 3, "fleet.node", '"mx1.example" is not such a name.'),
        (f"{LOCAL}nod = 'x'", "unknown_key", 3, "fleet.nod", '"nod" is not a known key.'),
        (f"{LOCAL}credentials = 'missing'", "unreadable_file", 3, "fleet.credentials", "missing"),
        (f"{LOCAL}credentials = 'empty'", "invalid_key", 1, "", "It has no seed of a NATS user."),
        (f"{LOCAL}tls_ca = 'empty'", "invalid_key", 3, "fleet.tls_ca", '"empty" has no certificate.'),
        (f"{LOCAL}tls_ca = 'missing'", "unreadable_file", 3, "fleet.tls_ca", "missing"),
        ("webhook = 1", "wrong_type", 1, "webhook", "1 is not a list of tables."),
        (HOOK + HOOK, "conflict", 6, "webhook.name", "The webhook on line 1 has the same name."),
        (HOOK.replace("https", "http"), "invalid_value", 3, "webhook.url", "has no TLS."),
        (HOOK + "types = ['Oob']", "invalid_value", 5, "webhook.types", '"Oob" is not one of'),
        (HOOK.replace("secret_file", "#"), "missing_key", 1, "webhook", "The webhook has no secret_file."),
        (HOOK.replace('"secret"', '"empty"'), "invalid_key", 1, "", "This is not a secret: it has 1 character"),
        ("".join(HOOK.replace("crm", f"c{n}") for n in range(17)), "out_of_range", 1, "webhook", "There are 17 webhooks"),
    ],
)
def test_errors(tmp_path: Path, text: str, code: str, line: int, key: str, said: str) -> None:
    with_files(tmp_path)
    loaded = load_files(tmp_path, {MAIN: text})
    (problem,) = loaded.problems
    assert loaded.settings is None
    assert (problem.level, problem.code, *place(problem)[1:]) == ("error", code, line, key)
    assert said in problem.text
    assert problem.fix.endswith(".")


@pytest.mark.parametrize("name", ["creds", "secret"])
@pytest.mark.parametrize(("mode", "exposed"), [(0o600, False), (0o640, False), (0o644, True), (0o660, True)])
def test_who_can_read_a_secret(tmp_path: Path, name: str, mode: int, exposed: bool) -> None:
    with_files(tmp_path)
    (tmp_path / name).chmod(mode)
    found = load_files(tmp_path, {MAIN: f"{LOCAL}credentials = 'creds'\n{HOOK}"}).problems
    assert [problem.code for problem in found] == ["exposed_secret"] * exposed


def test_a_local_endpoint_needs_no_tls(tmp_path: Path) -> None:
    with_files(tmp_path)
    for host in ("localhost", "127.0.0.1", "[::1]:8080"):
        assert settings_of(tmp_path, {MAIN: HOOK.replace("https://a.example", f"http://{host}")}).webhook


def test_a_server_elsewhere_without_tls(tmp_path: Path) -> None:
    servers = '["nats://127.0.0.1", "nats://localhost", "tls://a.example", "nats://b.example"]'
    (problem,) = load_files(tmp_path, {MAIN: f"[fleet]\nservers = {servers}"}).problems
    assert (problem.level, problem.code, place(problem)[1]) == ("warning", "no_tls", 2)
    assert "b.example" in problem.text


def test_missing_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_files(tmp_path)
    monkeypatch.setattr("sidecar.config.warnings.listeners.has_package", lambda _: False)
    (tmp_path / MAIN).write_text(LOCAL + HOOK)
    problems = load(tmp_path / MAIN, environ={}, ask_machine=True).problems
    assert [(problem.code, problem.line) for problem in problems] == [("missing_package", 1), ("missing_package", 3)]
