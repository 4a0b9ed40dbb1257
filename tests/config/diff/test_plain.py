"""Single settings compared, whatever there is in Settings."""

from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.diff.plain import ELSEWHERE, MEANINGS, flat, plain_changes
from sidecar.config.diff.rules import changes
from sidecar.config.diff.values import Spot
from sidecar.config.places import toml_places
from sidecar.core.settings.fleet import FleetSettings, WebhookSettings
from sidecar.core.settings.keys import PublicKey, Secret
from sidecar.core.settings.proof import SignSettings, VerifyRule, VerifySettings
from sidecar.core.settings.settings import Settings
from sidecar.core.settings.suppression import Check, SuppressionSettings
from sidecar.core.settings.values import AdminSettings, AdminToken, BounceRule, NetworkList, Where
from tests.building import entry, network, settings
from tests.config.diff.sides import side, side_of

DEFAULTS = replace(
    settings(),
    admin=AdminSettings(),
    sign=SignSettings(),
    suppression=SuppressionSettings(database=Path("/var/lib/sidecar/list.db")),
    fleet=FleetSettings(servers=("nats://127.0.0.1:4222",), node="mx1"),
)


def other(value: Any) -> Any:
    """Make a value unlike this one, of the same kind."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case Path():
            return value / "other"
        case _:
            return "other"


SECRET = Secret(key=b"hidden", id="ab")
KEY = PublicKey(selector="s1", domain="a.test", algorithm="rsa-sha256", der=b"1")
REJECT = VerifyRule(unverified="reject")
SPECIAL: dict[str, Any] = {
    "relay_hosts": NetworkList(networks=(network("198.51.100.0/24"),), where=None),
    "listener_relay_hosts": {"10.1.1.1:25": NetworkList(networks=(network("198.51.100.0/24"),), where=None)},
    "domains": (entry("example.com", log_oob="LogThenDrop"),),
    "headers": ("subject",),
    "bounce_rules": (BounceRule(pattern="x", bounce_class="Spam", where=Where(file="r.toml", line=1, key="rules.Spam")),),
    "log.level": "debug",
    "suppression.rule": (),
    "suppression.domain": {"a.test": "reject"},
    "text_bounces": "reject",
    "unparsable_reports": "quarantine",
    "webhook": (WebhookSettings(name="crm", url="https://a.test", secret_file=Path("secret")),),
    "verify": VerifySettings(rule=VerifyRule(unverified="reject")),
}


def altered(values: Struct, path: str = "") -> list[tuple[str, Any]]:
    """Give, for every field of a struct and of those inside it, its key path and the struct with only that altered."""
    found = []
    for name in values.__struct_fields__:
        value, key = getattr(values, name), path + name
        if key == "suppression.places":
            continue  # the lines of other fields
        if isinstance(value, Struct) and key not in SPECIAL:
            found += [(inner, replace(values, **{name: made})) for inner, made in altered(value, f"{key}.")]
        else:
            found.append((key, replace(values, **{name: SPECIAL[key] if key in SPECIAL else other(value)})))
    return found


@pytest.mark.parametrize(("key", "made"), altered(DEFAULTS), ids=lambda value: value if isinstance(value, str) else "")
def test_no_setting_is_forgotten(key: str, made: Settings) -> None:
    """Whatever single field of Settings is altered, there is a change, and nothing else is called changed."""
    found = list(changes(side_of(DEFAULTS), side_of(made)))
    keys = {change.key for change in found if change.kind == "setting"}
    assert found
    assert key in ELSEWHERE or keys == {key}


def test_every_setting_has_a_meaning() -> None:
    """A new setting must be given words for people, and a thought on whether it opens or closes."""
    assert MEANINGS.keys() == flat(DEFAULTS).keys()
    assert all(meaning.text for meaning in MEANINGS.values())


@pytest.mark.parametrize(
    ("changed", "effect"),
    [
        ({"recipient_limit": 1001}, "opens"),
        ({"recipient_limit": 999}, "closes"),
        ({"unparsable_reports": "quarantine"}, "opens"),
        ({"text_bounces": "reject"}, "closes"),
        ({"reject_at_connect": False}, "neither"),
        ({"decide": "end"}, "neither"),
        ({"headers": ("subject",)}, "neither"),
    ],
)
def test_effects(changed: dict[str, Any], effect: str) -> None:
    """A setting opens if more gets through by its new value, and closes if less does."""
    (there,) = plain_changes(side(), side(**changed))
    (back,) = plain_changes(side(**changed), side())
    assert there.effect == effect
    assert back.effect == {"opens": "closes", "closes": "opens", "neither": "neither"}[effect]


def test_lines() -> None:
    """A setting that a file has is told with its line, and a default without."""
    made = side(recipient_limit=5)
    made = replace(made, place=toml_places("\n\nrecipient_limit = 5\n"))
    (change,) = plain_changes(side(), made)
    assert change.old is not None
    assert change.new is not None
    assert (change.old.value, change.old.place) == (1000, None)
    assert (change.new.value, change.new.place) == (5, "sidecar.toml:3")


@pytest.mark.parametrize("table", ["milter", "admin"])
def test_a_mode_reads_as_one(table: str) -> None:
    """The mode of a socket is told in octal digits, as it is written."""
    made = replace(DEFAULTS, **{table: replace(getattr(DEFAULTS, table), socket_mode=0o600)})
    (change,) = plain_changes(side_of(DEFAULTS), side_of(made))
    assert (change.old, change.new) == (Spot(value="0660"), Spot(value="0600"))


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("/etc/sidecar/state", "/srv/new/state", True),
        ("/var/lib/sidecar", "/var/lib/sidecar", True),
        ("/var/lib/sidecar", "/var/lib/other", False),
        ("/etc/sidecar/state", "/etc/sidecar/state", True),
        ("/etc/sidecar/state", "/srv/new/other", False),
    ],
)
def test_paths_beside_the_settings_file(old: str, new: str, same: bool) -> None:
    """NEW will stand where OLD stands: what both name beside themselves is the same."""
    sides = [
        side_of(replace(DEFAULTS, state_directory=Path(state), milter=replace(DEFAULTS.milter, socket=f"unix:{state}")), folder)
        for state, folder in ((old, "/etc/sidecar"), (new, "/srv/new"))
    ]
    assert (not list(plain_changes(*sides))) == same


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (None, VerifySettings(), []),
        (VerifySettings(), VerifySettings(maximum_age=1), [("verify.maximum_age", 2592000, 1, "neither")]),
        (VerifySettings(secrets=(SECRET,)), VerifySettings(), [("verify.secret_files", ["ab"], [], "neither")]),
        (
            VerifySettings(secrets=(SECRET,)),
            VerifySettings(secrets=(replace(SECRET, key=b"x"),)),
            [("verify.secret_files", ["ab"], ["ab"], "neither")],
        ),
        (None, VerifySettings(dkim={("s1", "a.test"): KEY}), [("verify.dkim_keys", [], ["s1._domainkey.a.test"], "neither")]),
        (None, VerifySettings(rule=REJECT), [("verify.unverified", "accept", "reject", "closes")]),
        (
            VerifySettings(rule=REJECT),
            VerifySettings(rule=VerifyRule(unverified="quarantine")),
            [("verify.unverified", "reject", "quarantine", "opens")],
        ),
        (
            None,
            VerifySettings(domains={"*.a.test": VerifyRule(unverified="reject", requires_token=True)}),
            [
                ('verify.domain."*.a.test".unverified', "accept", "reject", "closes"),
                ('verify.domain."*.a.test".address', "optional", "required", "closes"),
            ],
        ),
        (
            VerifySettings(domains={"a.test": REJECT}),
            None,
            [('verify.domain."a.test".unverified', "reject", "accept", "opens")],
        ),
        # The removed rule of a name uncovers that of its parent.
        (
            VerifySettings(domains={"b.a.test": VerifyRule(), "*.a.test": REJECT}),
            VerifySettings(domains={"*.a.test": REJECT}),
            [('verify.domain."b.a.test".unverified', "accept", "reject", "closes")],
        ),
    ],
)
def test_verify(
    old: VerifySettings | None, new: VerifySettings | None, expected: list[tuple[str, object, object, str]]
) -> None:
    """Keys are shown by their names, and what a domain requires opens or closes."""
    found = [*changes(side_of(replace(DEFAULTS, verify=old)), side_of(replace(DEFAULTS, verify=new)))]
    assert [(one.key, one.old and one.old.value, one.new and one.new.value, one.effect) for one in found] == expected
    assert "hidden" not in repr(found)


def test_a_token_is_a_file_and_the_begin_of_its_hash() -> None:
    """A file with another token is a change."""
    one = AdminToken(role="reader", file=Path("/etc/sidecar/token"), digest="0123456789abcdef")
    sides = [side_of(replace(DEFAULTS, admin=AdminSettings(tokens=(token,)))) for token in (one, replace(one, digest="f" * 16))]
    (found,) = plain_changes(*sides)
    assert found.old == Spot(value={"reader": "/etc/sidecar/token (01234567)"})
    assert found.new == Spot(value={"reader": "/etc/sidecar/token (ffffffff)"})


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        ({}, {"a.test": "log"}, "neither"),
        ({}, {"a.test": "reject"}, "closes"),
        ({"*.a.test": "reject"}, {"*.a.test": "off"}, "opens"),
        ({"*.a.test": "reject"}, {"x.a.test": "off"}, "opens"),
        ({"a.test": "reject"}, {"b.test": "reject"}, "closes"),
    ],
)
def test_effect_of_sender_domains(before: dict[str, Check], after: dict[str, Check], effect: str) -> None:
    """A sender domain whose suppressed recipients are rejected closes; it opens if they are accepted again."""
    (change,) = plain_changes(
        *(side(suppression=SuppressionSettings(database=Path("/l.db"), domain=one)) for one in (before, after))
    )
    assert change.effect == effect
