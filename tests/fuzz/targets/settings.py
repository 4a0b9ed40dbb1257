"""The settings readers: any text is settings, or problems that an operator can read; never an exception.

Owns what is true of loading whatever the files hold. Never knows what a setting does.
"""

import tempfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

from sidecar.config import Loaded, load
from sidecar.core.policy import compile_policy
from sidecar.core.settings.settings import Settings

_FOLDER = Path(tempfile.gettempdir(), "sidecar-fuzz-settings")
_LISTENER = "10.1.1.1:25"

# The first line of an input names the file that the rest of it fills.
_FILES = (b"sidecar.toml", b"domains.toml", b"domains.json")

_SETTINGS = b"""relay_hosts = ["127.0.0.1", "192.168.1.0/24", "::ffff:10.0.0.0/104"]
listener_domains = ["domains.toml"]
headers = ["Subject"]
node_id = "0f1c9b1e-52a4-4d43-9b1f-6a1f5f1a7c11"
state_directory = "state"
recipient_limit = 100
report_size_limit = 1_000_000
reject_at_connect = false
decide = "end"
[milter]
socket = "inet:127.0.0.1:8893"
socket_mode = "0660"
workers = 2
[journal]
segment_age = 60
[log]
level = "info"
format = "auto"
[listener."[::1]:25"]
relay_hosts = ["::1"]
"""
_TOML = b"""["example.com"]
relay_to = true
ttl = "5 minutes"
["*.b\\u00fccher.example"]
log_oob = "LogThenDrop"
log_arf = true
['send.example.com']
relay_from = ["10.0.0.0/24", '192.168.1.1/24']
relay_from_authz = ["daniel"]
["*"]
relay_to = false
[listener."127.0.0.1:25"]
"*.example.com".log_oob = false # only here
"a.example" = { log_arf = "LogThenRelay" }
"""
_WARNED = b"""["*.example.com"]
log_oob = true
["omg.wtf.woot.example.com"]
["a.*.example.net"]
relay_to = true
[listener."127.0.0.1:25"."*"]
log_arf = true
[listener."127.0.0.1:25"."www.example.com"]
[listener."*"."a.*.example.net"]
"""
_JSON = b"""\xef\xbb\xbf{"example.com": {"relay_to": true, "relay_to": false}, // comment
 "": {"relay_from": ["any", null], "ttl": "soon"}, /* one
 more */ "u@x.example.com": [], "bounce.example.com": null, # caf\xe9
 "*": {"log_oob": "LogThenDrop", "log_arf": true, "relay_from": ["10.0.0.0/24"], "ttl": 300},
 "listener": {"*": {"b\\u00fccher.example": {"relay_from_authz": ["daniel"]}}, "[::1]:25": {}}}
"""


def seeds() -> Iterator[bytes]:
    """Yield a file of each kind with everything in it, one that draws every warning, and those that no parser likes."""
    yield b"domains.toml\n" + _WARNED
    for name, content in zip(_FILES, (_SETTINGS, _TOML, _JSON), strict=True):
        yield name + b"\n" + content
        yield name + b"\n" + (b'{"a":' if name.endswith(b"json") else b"a=") + b"9" * 4500
        yield name + b"\n" + (b'{"a":' if name.endswith(b"json") else b"a=") + b"[" * 1500 + b"]" * 1500


def check(data: bytes) -> None:
    """Check what comes of loading one file, as the main one or beside it."""
    name, _, content = data.partition(b"\n")
    file = _FILES[sum(name) % len(_FILES)] if name not in _FILES else name
    _FOLDER.mkdir(exist_ok=True)
    for other in _FILES:
        (_FOLDER / other.decode()).write_bytes(b"{}" if other.endswith(b"json") else b"")
    (_FOLDER / "sidecar.toml").write_text(f'listener_domains = ["{file.decode()}"]\n' if file != b"sidecar.toml" else "")
    (_FOLDER / file.decode()).write_bytes(content)
    loaded = load(_FOLDER / "sidecar.toml", environ={})
    _check_problems(loaded, content.count(b"\n") + 1)
    if loaded.settings is not None:
        _check_settings(loaded.settings)


def _check_problems(loaded: Loaded, lines: int) -> None:
    assert (loaded.settings is None) == any(problem.level == "error" for problem in loaded.problems)
    for problem in loaded.problems:
        assert problem.text.endswith((".", "!")), problem
        assert problem.fix.endswith("."), problem
        assert (problem.text + problem.fix).isprintable(), problem
        assert len(problem.text) + len(problem.fix) < 2000, problem
        if problem.line is not None:
            assert 1 <= problem.line <= lines, problem
            assert (problem.key or "").isprintable(), problem


def _check_settings(settings: Settings) -> None:
    """Check that settings without an error make a policy that has an answer to everything."""
    policy = compile_policy(settings)
    peer = ip_address("203.0.113.9")
    for listener in (_LISTENER, "127.0.0.1:25"):
        assert policy.at_connect(peer, listener).because
        assert policy.at_rcpt(peer, listener, "daniel", "a@send.example.com", "x@a.example").because
    for entry in settings.domains:
        assert policy.at_rcpt(peer, entry.listener, None, "", f"x@{entry.domain}").because
        assert entry.where("relay_to").line >= 1
