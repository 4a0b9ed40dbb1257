"""The codes of errors: scripts read them, so each stands for the same error in every version."""

from pathlib import Path
from typing import get_args

import pytest

from sidecar.core.findings import ErrorCode
from tests.config.helpers import MAIN, load_files

DOMAINS = "d.toml"

ERRORS = [
    ("conflict", {MAIN: '[admin]\nsocket = "inet:127.0.0.1:8893"\n'}),
    ("exposed_secret", {MAIN: '[verify]\nsecret_files = "secret"\n', "secret": "the-secret-of-the-tests-is-no-secret"}),
    ("host_bits_set", {MAIN: 'relay_hosts = ["10.0.0.1/8"]\n'}),
    ("invalid_key", {MAIN: '[verify]\ndkim_keys = "."\n'}),
    ("invalid_listener", {MAIN: "[listener.mx]\nrelay_hosts = []\n"}),
    ("invalid_pattern", {MAIN: 'bounce_classifier = "r.toml"\n', "r.toml": "[rules]\nA = ['(']\n"}),
    ("invalid_value", {MAIN: 'relay_hosts = ["ten"]\n'}),
    ("limit_too_small", {MAIN: "report_size_limit = 20000\n[limits]\nreport_memory = 10000\n"}),
    ("misplaced_key", {DOMAINS: "relay_to = true\n"}),
    ("missing_key", {MAIN: 'group = "mail"\n'}),
    ("missing_key", {MAIN: 'bounce_classifier = "r.toml"\n', "r.toml": ""}),
    ("out_of_range", {MAIN: "recipient_limit = 0\n"}),
    (
        "patterns_too_large",
        {MAIN: 'bounce_classifier = "r.toml"\n', "r.toml": f"[rules]\nA = {['.{1000}' + str(n) for n in range(20)]}\n"},
    ),
    ("remote_socket", {MAIN: '[milter]\nsocket = "inet:192.0.2.1:8893"\n'}),
    ("repeated_domain", {DOMAINS: '["a.com"]\n["A.com"]\n'}),
    ("repeated_key", {MAIN: 'bounce_classifier = "r.json"\n', "r.json": '{"rules": {"A": [], "A": []}}'}),
    ("repeated_listener", {MAIN: '[listener."[::1]:25"]\n[listener."[0::1]:25"]\n'}),
    ("syntax_error", {MAIN: "relay_hosts =\n"}),
    ("unknown_key", {MAIN: "relay_host = []\n"}),
    ("unknown_key", {DOMAINS: '["a.com"]\nrelay = true\n'}),
    ("unquoted_domain", {DOMAINS: "[a.com]\nrelay_to = true\n"}),
    ("unreadable_file", {MAIN: 'listener_domains = "none.toml"\n'}),
    ("unrecorded_reports", {MAIN: "[journal.OOB]\nenabled = false\n"}),
    ("wrong_type", {MAIN: "relay_hosts = 1\n"}),
    ("wrong_type", {DOMAINS: '"a.com" = 1\n'}),
]


@pytest.mark.parametrize(("code", "files"), ERRORS)
def test_error(tmp_path: Path, code: str, files: dict[str, str]) -> None:
    """Each error has its code."""
    loaded = load_files(tmp_path, files)
    assert loaded.settings is None
    assert [(finding.level, finding.code) for finding in loaded.problems] == [("error", code)]


def test_every_code_is_drawn() -> None:
    """Each code belongs to an error of the table above."""
    assert {code for code, _ in ERRORS} == set(get_args(ErrorCode))
