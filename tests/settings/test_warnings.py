"""Warnings find what is hardly meant, say where, and stay silent otherwise."""

from pathlib import Path

import pytest

from tests.settings.helpers import load_files, place

NO_LISTENER = ""


def domains(*names: str, listener: str = NO_LISTENER) -> str:
    """Write a file with one table a line."""
    prefix = f'listener."{listener}".' if listener else ""
    return "".join(f'[{prefix}"{name}"]\n' for name in names)


@pytest.mark.parametrize(
    ("names", "listener", "line", "text"),
    [
        (
            ["*.example.com", "omg.wtf.woot.example.com"],
            NO_LISTENER,
            2,
            'Because of this entry "*.example.com" (d.toml:1) does not serve "woot.example.com" or "wtf.woot.example.com".',
        ),
        (
            ["a.b.example.com", "*.example.com"],
            NO_LISTENER,
            1,
            'Because of this entry "*.example.com" (d.toml:2) does not serve "b.example.com".',
        ),
        (
            ["*.example.com", "*.b.example.com"],
            NO_LISTENER,
            2,
            'Because of this entry "*.example.com" (d.toml:1) does not serve "b.example.com".',
        ),
        (
            ["*.example.com", "a.b.example.com"],
            "127.0.0.1:25",
            2,
            'Because of this entry listener."127.0.0.1:25"."*.example.com" (d.toml:1) does not serve "b.example.com".',
        ),
        (
            ["*", "a.com", "b.org", "c.net", "d.info", "e.com"],
            "127.0.0.1:25",
            1,
            'This entry does not serve names below "com", "info", "net" or 1 more, where this listener has other entries.',
        ),
        (["a.*.com"], NO_LISTENER, 1, "This entry serves no name: a * stands for others only as the whole first label."),
        (["x*.com"], NO_LISTENER, 1, "This entry serves no name: a * stands for others only as the whole first label."),
    ],
)
def test_warnings(tmp_path: Path, names: list[str], listener: str, line: int, text: str) -> None:
    """Each of these has this one warning, at this line, and still loads."""
    loaded = load_files(tmp_path, {"d.toml": domains(*names, listener=listener)})
    assert loaded.settings is not None
    (problem,) = loaded.problems
    assert (problem.severity, place(problem)[:2], problem.text) == ("warning", ("d.toml", line), text)


@pytest.mark.parametrize(
    ("names", "listener"),
    [
        (["*.example.com", "www.example.com", "*", "example.com"], NO_LISTENER),
        (["*.example.com", "b.example.com", "a.b.example.com"], NO_LISTENER),
        (["*.example.com", "c.example.com", "a.b.c.example.com"], NO_LISTENER),
        (["a.b.example.com", "example.com"], NO_LISTENER),
        (["*", "[192.0.2.1]"], "127.0.0.1:25"),
        (["*"], "127.0.0.1:25"),
        (["*.com", "[192.0.2.1]"], NO_LISTENER),
    ],
)
def test_silence(tmp_path: Path, names: list[str], listener: str) -> None:
    """What is usual has no warning."""
    assert load_files(tmp_path, {"d.toml": domains(*names, listener=listener)}).problems == ()


def test_a_missed_name_is_told_once(tmp_path: Path) -> None:
    """Many entries below one missed name make one warning, and each further missed name one more."""
    names = ["*.example.com", *(f"{label}.b.example.com" for label in "xyz"), "a.c.b.example.com"]
    loaded = load_files(tmp_path, {"d.toml": domains(*names)})
    assert [(place(problem)[1], problem.text.rpartition(" ")[2]) for problem in loaded.problems] == [
        (2, '"b.example.com".'),
        (5, '"c.b.example.com".'),
    ]
