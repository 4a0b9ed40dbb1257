"""The section [admin]."""

import hashlib
from pathlib import Path

import pytest

from sidecar.config import load
from sidecar.core.settings.values import AdminSettings


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("", None),
        ("[admin]", AdminSettings()),
        ('[admin]\nsocket = "inet:localhost:99"', AdminSettings(socket="inet:localhost:99")),
        ('[admin]\nsocket = "inet:[::1]:99"', AdminSettings(socket="inet:[::1]:99")),
        (
            '[admin]\nsocket = "unix:/run/a"\nsocket_mode = "0666"\nsocket_group = "root"',
            AdminSettings(socket="unix:/run/a", socket_mode=0o666, socket_group="root"),
        ),
    ],
)
def test_without_the_section_there_is_none(written: str, read: AdminSettings | None, tmp_path: Path) -> None:
    """An empty one takes the defaults."""
    (tmp_path / "s.toml").write_text(written)
    loaded = load(tmp_path / "s.toml")
    assert loaded.settings is not None
    assert loaded.settings.admin == read


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('socket = "inet:192.0.2.1:99"', "Other machines can reach inet:192.0.2.1:99"),
        ('socket = "inet:0.0.0.0:99"', "Other machines can reach"),
        ('socket = "8894"', "is not a socket"),
        ("allow_remote = true", '"allow_remote" is not a known key'),
        ('socket_mode = "rw"', "is not a file mode"),
        ('socket = "inet:127.0.0.1:8893"', "The milter already listens on inet:127.0.0.1:8893"),
        ('socket = "inet:127.0.0.2:8893"', "The milter already listens on inet:127.0.0.1:8893"),
        ('socket = "inet:localhost:8893"', "The milter already listens on inet:127.0.0.1:8893"),
    ],
)
def test_what_cannot_be_taken_is_named_with_its_line(written: str, said: str, tmp_path: Path) -> None:
    """There is no way to listen for other machines: whoever wants that puts a server in front that knows them."""
    (tmp_path / "s.toml").write_text(f"[admin]\n{written}\n")
    loaded = load(tmp_path / "s.toml")
    (problem,) = loaded.problems
    assert problem.level == "error"
    assert said in problem.text
    assert (problem.line, problem.key) == (2, f"admin.{written.split(maxsplit=1)[0]}")


def test_two_names_of_one_path_are_one_socket(tmp_path: Path) -> None:
    """As /var/run and /run are on many systems."""
    (tmp_path / "run").mkdir()
    (tmp_path / "var").symlink_to("run")
    (tmp_path / "s.toml").write_text('[milter]\nsocket = "unix:run/s"\n[admin]\nsocket = "unix:var/../var/s"\n')
    (problem,) = load(tmp_path / "s.toml").problems
    assert (problem.line, problem.key) == (4, "admin.socket")
    assert f"The milter already listens on unix:{tmp_path}/run/s" in problem.text


@pytest.mark.parametrize(("written", "console"), [("", False), ("console = false", False), ("console = true", True)])
def test_console(tmp_path: Path, written: str, *, console: bool) -> None:
    """There are no pages unless the settings ask for them."""
    (tmp_path / "s.toml").write_text(f"[admin]\n{written}\n")
    settings = load(tmp_path / "s.toml").settings
    assert settings is not None
    assert settings.admin is not None
    assert settings.admin.console is console


def test_console_is_true_or_false(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text('[admin]\nconsole = "yes"\n')
    (problem,) = load(tmp_path / "s.toml").problems
    assert (problem.code, problem.line, problem.key) == ("wrong_type", 2, "admin.console")


READER, OPERATOR = "the-reader-of-the-tests-has-no-secret", "the-operator-of-the-tests-has-none-too"


def write_tokens(folder: Path, *, mode: int = 0o600, **texts: str) -> None:
    """Write a file for each role."""
    for role, text in texts.items():
        (folder / role).write_text(text + "\n")
        (folder / role).chmod(mode)


def test_tokens(tmp_path: Path) -> None:
    """The settings have hashes of them, and a change of a file is a change of the settings."""
    write_tokens(tmp_path, reader=READER, operator=OPERATOR)
    (tmp_path / "s.toml").write_text('[admin]\ntokens = { operator = "operator", reader = "reader" }\n')
    loaded = load(tmp_path / "s.toml")
    assert loaded.settings is not None
    assert loaded.settings.admin is not None
    assert [(one.role, one.file, one.digest) for one in loaded.settings.admin.tokens] == [
        (role, tmp_path / role, hashlib.sha256(text.encode()).hexdigest())
        for role, text in (("reader", READER), ("operator", OPERATOR))
    ]
    assert READER not in repr(loaded.settings)
    assert {source.path.name for source in loaded.sources} == {"s.toml", "reader", "operator"}


@pytest.mark.parametrize(
    ("written", "operator", "mode", "found"),
    [
        ("{ operator = 'operator' }", OPERATOR, 0o644, ("exposed_secret", "admin.tokens.operator")),
        ("{ operator = 'other' }", OPERATOR, 0o600, ("unreadable_file", "admin.tokens.operator")),
        ("{ operator = 'operator' }", "short", 0o600, ("invalid_key", "")),
        ("{ reader = 'reader', operator = 'operator' }", READER, 0o640, ("conflict", "admin.tokens.operator")),
        ("{ admin = 'operator' }", OPERATOR, 0o600, ("unknown_key", "admin.tokens.admin")),
        ("{ reader = 7 }", OPERATOR, 0o600, ("wrong_type", "admin.tokens.reader")),
        ("'operator'", OPERATOR, 0o600, ("wrong_type", "admin.tokens")),
    ],
)
def test_wrong_tokens(written: str, operator: str, mode: int, found: tuple[str, str], tmp_path: Path) -> None:
    """They have the rules of secret files, and each role has its own."""
    write_tokens(tmp_path, mode=mode, reader=READER, operator=operator)
    (tmp_path / "s.toml").write_text(f"[admin]\ntokens = {written}\n")
    (problem,) = load(tmp_path / "s.toml").problems
    assert (problem.code, problem.key, problem.level) == (*found, "error")
    assert operator not in problem.text + problem.fix


@pytest.mark.parametrize(("tokens", "codes"), [("", ["no_effect"]), ("tokens = { reader = 'reader' }", [])])
def test_a_console_without_a_login(tokens: str, codes: list[str], tmp_path: Path) -> None:
    write_tokens(tmp_path, reader=READER)
    (tmp_path / "s.toml").write_text(f"[admin]\nconsole = true\n{tokens}\n")
    loaded = load(tmp_path / "s.toml")
    assert loaded.settings is not None
    found = [(problem.code, problem.key) for problem in loaded.problems if problem.key == "admin.console"]
    assert [code for code, _ in found] == codes


@pytest.mark.parametrize(("mode", "codes"), [("0666", ["exposed_list"]), ("0660", [])])
def test_who_reads_the_list(mode: str, codes: list[str], tmp_path: Path) -> None:
    """A socket for every user shows the suppression list to every user."""
    text = f'bounce_classifier = ["iana"]\n[suppression]\n[admin]\nsocket = "unix:a"\nsocket_mode = "{mode}"\n'
    (tmp_path / "s.toml").write_text(text)
    found = load(tmp_path / "s.toml").problems
    assert [(one.code, one.key) for one in found] == [(code, "admin.socket_mode") for code in codes]
