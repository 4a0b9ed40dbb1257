"""The reference of the settings files has every setting of the program, with its true default, range and words."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from sidecar.config import load
from sidecar.config.domains import _KEYS as DOMAIN_KEYS
from sidecar.config.fleet import READERS as FLEET_KEYS
from sidecar.config.fleet import WEBHOOK_READERS, default_node
from sidecar.config.loading import _LIMIT_READERS, _LOG_READERS, _READERS
from sidecar.config.sign import READERS as SIGN_KEYS
from sidecar.config.verify import DOMAIN_READERS as VERIFY_DOMAIN_KEYS
from sidecar.config.verify import READERS as VERIFY_KEYS
from sidecar.core.findings import Finding
from sidecar.core.settings.fleet import FleetSettings, WebhookSettings
from sidecar.core.settings.proof import SignSettings, VerifyRule, VerifySettings
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import SuppressionRule, SuppressionSettings
from sidecar.core.settings.values import (
    RECORD_TYPES,
    AdminSettings,
    DomainEntry,
    JournalSettings,
    LogMode,
    MilterSettings,
    RecordSettings,
)
from sidecar.daemon.process.reload import _KEPT, _KEPT_OF_SOCKETS
from tests.deploy.documents import FOLDER, Document

# Stand for [journal.TYPE], [listener."IP:port"], [verify.domain."NAME"] and [[suppression.rule]].
TYPE, LISTENER, DOMAIN = "journal.OOB", 'listener."10.1.1.1:25"', 'verify.domain."bounce.example.com"'
RULE, SENDER = "[suppression.rule]", 'suppression.domain."news.example.com"'
SECTIONS = {
    "Top level": "",
    "[[suppression.rule]]": RULE,
    "[[webhook]]": "[webhook]",
    "[journal.TYPE]": TYPE,
    '[listener."IP:port"]': LISTENER,
    '[verify.domain."NAME"]': DOMAIN,
    '[suppression.domain."NAME"]': SENDER,
}
FLEET = FleetSettings(servers=(), node="")
WEBHOOK = WebhookSettings(name="", url="", secret_file=Path())
ENVIRON = {"STATE_DIRECTORY": "/var/lib/sidecar"}


class Setting(Struct, frozen=True, kw_only=True):
    """A row of the reference."""

    section: str
    key: str
    value: str
    default: str
    text: str

    def __str__(self) -> str:
        return f"{self.section}.{self.key}".lstrip(".")

    @property
    def literal(self) -> str | None:
        """The default as TOML writes it; None if it depends on something, or there is none."""
        match = re.fullmatch("`([^`]+)`", self.default)
        return match[1] if match else None

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The least and the largest number that it names."""
        match = re.match(r"(\d+) to (\d+)", self.value)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def words(self) -> list[str]:
        """The values that it names, as TOML writes them."""
        return re.findall('`("[^`]+"|true|false)`', self.value)

    def line(self, value: object) -> str:
        """Write the setting with a value of TOML, in its section."""
        if self.section == RULE:
            return f'[[suppression.rule]]\nwhen = ["abuse"]\n{"count = 100" * (self.key == "days")}\n{self.key} = {value}\n'
        before = {"group": 'user = "sidecar"\n', "verify.unverified": '[verify]\nsecret_files = "secret"\n'}.get(str(self), "")
        if self.section in {DOMAIN, "sign"}:
            before = '[verify]\nsecret_files = "secret"\n'
        if self.section == "sign":
            before += {
                "header": '[sign]\ncfbl_address = "fbl@example.com"\n',
                "address": '[sign]\ndomains = ["example.com"]\n',
            }.get(self.key, "")
        heading = f"[{self.section}]" if self.section and f"[{self.section}]" not in before else ""
        return f"{before}{heading}\n{self.key} = {value}\n"


def rows(name: str) -> Iterator[Setting]:
    for table in Document(FOLDER / f"{name}.md").tables():
        if table.head[1:] == ("value", "default", "what it does"):
            for key, value, default, text in table.rows:
                section = SECTIONS.get(table.section, table.section.strip("[]"))
                yield Setting(section=section, key=key.strip("`"), value=value, default=default, text=text)


SETTINGS = list(rows("sidecar.toml"))
DOMAINS = list(rows("listener_domains.toml"))
NUMBERS = [setting for setting in SETTINGS if setting.bounds]
CHOICES = [setting for setting in SETTINGS if setting.words]


def loaded(folder: Path, text: str, domains: str = "") -> tuple[Settings | None, list[Finding]]:
    (folder / "listener_domains.toml").write_text(domains)
    (folder / "sidecar.toml").write_text(text)
    (folder / "secret").write_text("the-secret-of-the-tests-is-no-secret")
    (folder / "secret").chmod(0o600)
    found = load(folder / "sidecar.toml", environ=ENVIRON)
    return found.settings, [finding for finding in found.problems if finding.level == "error"]


def test_every_setting_is_there() -> None:
    journal = {*JournalSettings.__struct_fields__} - {*RECORD_TYPES}
    assert sorted(map(str, SETTINGS)) == sorted(
        [
            *_READERS,
            *(f"limits.{key}" for key in _LIMIT_READERS),
            *(f"log.{key}" for key in _LOG_READERS),
            *(f"milter.{key}" for key in MilterSettings.__struct_fields__),
            *(f"admin.{key}" for key in AdminSettings.__struct_fields__),
            *(f"journal.{key}" for key in journal),
            *(f"{TYPE}.{key}" for key in RecordSettings.__struct_fields__),
            f"{LISTENER}.relay_hosts",
            *(f"verify.{key}" for key in VERIFY_KEYS),
            *(f"{DOMAIN}.{key}" for key in VERIFY_DOMAIN_KEYS),
            *(f"sign.{key}" for key in SIGN_KEYS),
            *(f"fleet.{key}" for key in FLEET_KEYS),
            *(f"[webhook].{key}" for key in WEBHOOK_READERS),
            *(f"suppression.{key}" for key in {*SuppressionSettings.__struct_fields__} - {"rule", "domain", "places"}),
            f"{SENDER}.check",
            *(f"{RULE}.{key}" for key in SuppressionRule.__struct_fields__ if key != "where"),
        ]
    )
    assert sorted(setting.key for setting in DOMAINS) == sorted(DOMAIN_KEYS)
    assert all(setting.text.endswith((".", "**")) for setting in (*SETTINGS, *DOMAINS))


def test_the_defaults(tmp_path: Path) -> None:
    """A file with all documented defaults is a file without settings. Where the reference says "none", none is set."""
    sections: dict[str, list[str]] = {}
    for setting in SETTINGS:
        if setting.literal and setting.section != RULE:
            sections.setdefault(setting.section, []).append(f"{setting.key} = {setting.literal}")
    sections["fleet"].append('servers = "tls://nats.example.com"')
    signing = ["[verify]", 'secret_files = "secret"', "[sign]", *sections.pop("sign")]
    text = "\n".join(f"{f'[{name}]' if name else ''}\n" + "\n".join(lines) for name, lines in sections.items())
    found, errors = loaded(tmp_path, text)
    expected = load(None, environ=ENVIRON).settings
    assert (errors, found is None, expected is None) == ([], False, False)
    assert found is not None
    assert expected is not None
    assert found.relay_hosts.networks == expected.relay_hosts.networks
    assert found.admin == AdminSettings()
    assert found.verify is not None
    assert replace(found.verify, rule=VerifyRule(), domains={}) == VerifySettings()
    assert [replace(rule, places={}) for rule in found.verify.domains.values()] == [VerifyRule()]
    others = {"admin": None, "verify": None, "suppression": None, "fleet": None}
    assert replace(found, relay_hosts=expected.relay_hosts, **others) == expected
    assert found.fleet == FleetSettings(servers=("tls://nats.example.com:4222",), node=default_node())
    assert found.suppression is not None
    assert replace(found.suppression, places={}) == SuppressionSettings(database=expected.state_directory / "suppression.db")
    rule = SuppressionRule(when=())
    for setting in (one for one in SETTINGS if one.section == RULE and one.literal):
        assert setting.literal == str(getattr(rule, setting.key))
    found, errors = loaded(tmp_path, "\n".join(signing))
    assert (errors, found and found.sign) == ([], SignSettings())
    for setting in SETTINGS:
        place = {"": expected, "milter": expected.milter, "admin": AdminSettings(), TYPE: RecordSettings()}.get(setting.section)
        place = {"verify": VerifySettings(), "sign": SignSettings(), "fleet": FLEET, "[webhook]": WEBHOOK}.get(
            setting.section, place
        )
        if setting.default == "none":
            assert getattr(place, setting.key) is None, str(setting)
    unset = {str(setting) for setting in SETTINGS if not setting.literal and setting.default != "none"}
    assert unset == {
        "fleet.node",
        "fleet.servers",
        "[webhook].name",
        "[webhook].secret_file",
        "[webhook].types",
        "[webhook].url",
        "suppression.database",
        f"{RULE}.when",
        "journal.directory",
        "journal.meta",
        f"{TYPE}.directory",
        f"{TYPE}.suffix",
        f"{LISTENER}.relay_hosts",
        f"{DOMAIN}.unverified",
        f"{SENDER}.check",
        "sign.domains",
    }
    assert expected.journal.directory == expected.state_directory / "journal"
    assert expected.journal.meta is None
    assert expected.journal.place("OOB") == (expected.journal.directory, ".jsonl")
    assert replace(expected.journal, format="zstd").place("OOB") == (expected.journal.directory, "")


@pytest.mark.parametrize("setting", NUMBERS, ids=str)
def test_the_ranges(setting: Setting, tmp_path: Path) -> None:
    """The bounds are accepted, and one more or less is not."""
    assert setting.bounds
    least, most = setting.bounds

    def out_of_range(value: int) -> list[str]:
        _, errors = loaded(tmp_path, setting.line(value))
        return [finding.code for finding in errors if finding.code != "limit_too_small"]

    assert [out_of_range(value) for value in (least - 1, least, most, most + 1)] == [["out_of_range"], [], [], ["out_of_range"]]


@pytest.mark.parametrize("setting", CHOICES, ids=str)
def test_the_words(setting: Setting, tmp_path: Path) -> None:
    """Each word is accepted, and no other one. Records of reports cannot be turned off."""
    for word in (*setting.words, '"other"'):
        _, errors = loaded(tmp_path, setting.line(word))
        wrong = word == '"other"' or setting.line(word).endswith("enabled = false\n")
        assert bool(errors) == wrong, (word, errors)


def test_numbers_and_words_are_found() -> None:
    """Each setting with a number or a fixed word as its default is tested above."""
    tested = {str(setting) for setting in (*NUMBERS, *CHOICES)}
    for setting in SETTINGS:
        if setting.literal and re.fullmatch(r'\d+|true|false|"[a-z]+"', setting.literal) and setting.value != "name":
            assert str(setting) in tested


def test_what_needs_a_restart() -> None:
    marked = {str(setting) for setting in SETTINGS if "**restart**" in setting.text}
    sockets = {f"{section}.{key}" for section in ("milter", "admin") for key in _KEPT_OF_SOCKETS}
    assert marked == {*_KEPT} | sockets


def test_the_keys_of_a_domain(tmp_path: Path) -> None:
    default = DomainEntry(listener="*", domain="", path="", line=1, steps={})
    for setting in DOMAINS:
        if setting.literal:
            value = getattr(default, setting.key)
            plain = value.value if isinstance(value, LogMode) else [*value] if isinstance(value, tuple) else value
            assert json.loads(setting.literal) == plain
        for word in (*setting.words, '"other"'):
            text = f'["a.example"]\n{setting.key} = {word if setting.words else 5}\n'
            _, errors = loaded(tmp_path, 'listener_domains = "listener_domains.toml"\n', text)
            assert bool(errors) == (word == '"other"' and setting.key != "ttl"), (text, errors)
