"""Setting sidecar.lua up: what is wrong is refused before any mail comes, and told in sentences."""

import os
import shutil
import subprocess
from typing import Any

import pytest

from tests.kumomta.endpoint import endpoint
from tests.kumomta.node import DEPLOYED, HERE, TRY_AGAIN, Node

RIGHT: list[dict[str, Any]] = [
    {"ttl": "0s"},
    {"ttl": "5 minutes", "timeout": "1500ms"},
    {"endpoint": "http://[::1]:8894/"},
    {"endpoint": "https://sidecar.internal", "on_failure": "tempfail"},
    {"on_failure": "file", "files": ["/opt/kumomta/etc/listener_domains.toml", {"example.com": {"relay_to": True}}]},
]
WRONG: list[tuple[dict[str, Any], list[str]]] = [
    ({"cache": "5s", "Endpoint": "x"}, ["Endpoint is no option", "cache is no option"]),
    ({"endpoint": "unix:/run/sidecar/admin"}, ["UNIX socket"]),
    ({"endpoint": "127.0.0.1:8894"}, ["write http://"]),
    ({"endpoint": "http://127.0.0.1:8894/v1"}, ["write http://"]),
    ({"endpoint": "http://user@127.0.0.1"}, ["write http://"]),
    ({"endpoint": False}, ["write http://"]),
    ({"ttl": 5}, ["ttl is no duration"]),
    ({"ttl": "soon"}, ["ttl is no duration"]),
    ({"ttl": "-1s"}, ["ttl is no duration"]),
    ({"timeout": "0s"}, ["timeout is no duration, or none at all"]),
    ({"timeout": "1 fortnight"}, ["timeout is no duration"]),
    ({"on_failure": "accept"}, ["on_failure is neither"]),
    ({"on_failure": "file"}, ["needs files"]),
    ({"on_failure": "file", "files": []}, ["needs files"]),
    ({"on_failure": "file", "files": "listener_domains.toml"}, ["needs files"]),
    ({"files": ["listener_domains.toml"]}, ["files are for on_failure"]),
    ({"ttl": "x", "timeout": "y", "on_failure": "z"}, ["ttl", "timeout", "on_failure"]),
]


@pytest.mark.parametrize("options", RIGHT)
def test_right_options(options: dict[str, Any]) -> None:
    with Node() as node:
        assert node.do("setup", options=options).result == "done"


@pytest.mark.parametrize(("options", "told"), WRONG)
def test_wrong_options(options: dict[str, Any], told: list[str]) -> None:
    """Each error is a sentence, all at once: in the log, and with --validate. All mail is tempfailed."""
    with Node() as node:
        problems = node.do("problems", options=options).result
        assert len(problems) == len(told)
        for problem, words in zip(problems, told, strict=True):
            assert words in problem
            assert problem.endswith(".")
        assert node.do("setup", options=options).result == "done"
        answer = node.ask("a.example")
        assert answer.reject == TRY_AGAIN
        assert answer.logged == [f"sidecar: all mail is tempfailed: {problem}" for problem in problems]
        validated = node.do("validate").result
        assert validated == {"printed": ["Issues found with the sidecar:", *(f" - {it}" for it in problems)], "failed": True}
        assert node.do("setup", options=RIGHT[0]).result == "done"


def test_no_options_at_all() -> None:
    """`setup()` is a slip, and `setup {}` means the defaults."""
    with Node() as node:
        assert node.do("setup").result == "done"
        (told,) = node.ask("a.example").logged
        assert "setup takes a table" in told
        assert node.do("setup", options={}).result == "done"


def test_set_up_once() -> None:
    """A second call would leave two handlers with different ideas."""
    with Node() as node:
        node.do("setup", options={})
        node.do("setup", options={})
        assert node.ask("a.example").logged == ["sidecar: all mail is tempfailed: setup was called before: call it once."]
        assert " - setup was called before: call it once." in node.do("validate").result["printed"]


def test_validation() -> None:
    """`kumod --validate` asks the sidecar once, and names what is wrong."""
    with endpoint() as server:
        with Node(endpoint=server.url) as node:
            assert node.do("validate").result == {"printed": {}, "failed": False}
            assert len(server.asked) == 1
            server.status = 500
            node.do("too_old")
            told = node.do("validate").result
        assert told["failed"]
        head, old, silent = told["printed"]
        assert head == "Issues found with the sidecar:"
        assert "This KumoMTA does not know all that the sidecar may answer" in old
        assert f"The sidecar does not answer at {server.url}: start it" in silent
        assert "status 500" in silent


def test_no_traceback() -> None:
    """KumoMTA's errors have a traceback in their text; what `kumod --validate` prints and what is logged has none."""
    with endpoint() as server:
        url = server.url
    with Node(endpoint=url) as node:
        node.do("too_old")
        printed = node.do("validate").result["printed"]
        assert len(printed) == 3
        assert any("error sending request" in line for line in printed)
        (logged,) = node.ask("a.example").logged
        assert "error sending request" in logged
        for line in (*printed, logged):
            assert not any(word in line for word in ("traceback", "[C]", ".lua:", "callback error"))
            assert line.isprintable()


def test_validation_of_a_policy_that_does_not_use_it() -> None:
    """A module that is loaded and not set up has nothing to say."""
    with Node() as node:
        assert node.do("validate").result == {"printed": {}, "failed": False}


@pytest.mark.skipif(not (os.environ.get("CI") or shutil.which("luacheck")), reason="lua-check is not installed")
def test_luacheck() -> None:
    """No unused or global variable, and no line over 130 columns."""
    command = ["luacheck", "--std", "lua54", "--no-self", "--max-line-length", "130", "--no-color", str(DEPLOYED), str(HERE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout
