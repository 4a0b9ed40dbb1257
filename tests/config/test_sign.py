"""The section [sign]: its keys, and an error with its place for each fault."""

from pathlib import Path

import pytest

from sidecar.core.settings.proof import SignSettings
from tests.config.helpers import MAIN, load_files, place, settings_of
from tests.config.test_verify import write_keys

VERIFY = '[verify]\nsecret_files = ["secret"]\n'


def test_every_key(tmp_path: Path) -> None:
    """Domains and addresses are in normal form."""
    write_keys(tmp_path)
    text = """\
[sign]
header = true
address = true
cfbl_address = "FBL@Example.COM"
domains = ["Example.COM.", "*.münch.example"]
"""
    found = settings_of(tmp_path, {MAIN: VERIFY + text}).sign
    domains = ("example.com", "*.xn--mnch-0ra.example")
    assert found == SignSettings(header=True, address=True, cfbl_address="FBL@example.com", domains=domains)


def test_an_empty_section(tmp_path: Path) -> None:
    """It adds the trace header."""
    write_keys(tmp_path)
    assert settings_of(tmp_path, {MAIN: f"{VERIFY}[sign]"}).sign == SignSettings(header=True)


def test_no_section(tmp_path: Path) -> None:
    """Secrets alone sign nothing."""
    write_keys(tmp_path)
    assert settings_of(tmp_path, {MAIN: VERIFY}).sign is None


@pytest.mark.parametrize(
    ("text", "line", "key", "start"),
    [
        ("[sign]\nheader = true", 1, "sign", "[sign] has no secret"),
        ("[verify]\n[sign]\nheader = true", 2, "sign", "[sign] has no secret"),
        (f"{VERIFY}[sign]\nheader = false", 4, "sign.header", "[sign] adds no proof to mail."),
        (f'{VERIFY}[sign]\nheader = false\ndomains = ["a.test"]', 4, "sign.header", "[sign] adds no proof to mail."),
        (f"{VERIFY}[sign]\naddress = true", 4, "sign.address", "With address = true the envelope sender of all outbound mail"),
        (f"{VERIFY}[sign]\naddress = true\ndomains = []", 5, "sign.domains", "An empty list means"),
        (f'{VERIFY}[sign]\nheader = "yes"', 4, "sign.header", '"yes" is neither true nor false.'),
        (f'{VERIFY}[sign]\nheader = true\ndomains = ["*"]', 5, "sign.domains", '"*" is not a domain.'),
        (f'{VERIFY}[sign]\nheader = true\ndomains = ["a.test", "b@c"]', 5, "sign.domains", '"b@c" is not a domain.'),
        (f'{VERIFY}[sign]\nheader = true\ndomains = "a.test"', 5, "sign.domains", '"a.test" is not a list.'),
        (f'{VERIFY}[sign]\ncfbl_address = "fbl"', 4, "sign.cfbl_address", '"fbl" is not a mail address.'),
        (f'{VERIFY}[sign]\ncfbl_address = "a;b@c.test"', 4, "sign.cfbl_address", '"a;b@c.test" is not a mail address.'),
        (f'{VERIFY}[sign]\ncfbl_address = "ü@c.test"', 4, "sign.cfbl_address", '"ü@c.test" is not a mail address.'),
        (f"{VERIFY}[sign]\nheader = true\nadress = true", 5, "sign.adress", '"adress" is not a known key.'),
    ],
)
def test_faults(tmp_path: Path, text: str, line: int, key: str, start: str) -> None:
    write_keys(tmp_path)
    loaded = load_files(tmp_path, {MAIN: text})
    errors = [one for one in loaded.problems if one.level == "error"]
    assert [(place(one), one.text[: len(start)]) for one in errors] == [((MAIN, line, key), start)]


def test_a_secret_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    """[sign] adds none of its own."""
    loaded = load_files(tmp_path, {MAIN: f"{VERIFY}[sign]\nheader = true"})
    assert [one.code for one in loaded.problems] == ["unreadable_file"]
