"""The documents: transcripts, links, metrics and names of options are true. tests/packages/documents.py runs all commands."""

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

from sidecar.cli import main
from sidecar.core.findings import ErrorCode, RuntimeCode, WarningCode
from sidecar.core.records.record import Record
from sidecar.daemon.metrics.series import FAMILIES, REPORT_FORMS
from tests import ROOT
from tests.deploy.documents import FOLDER, LANGUAGES, RUNNERS, Document, Fence, documents
from tests.mta.places import free_port

DOCUMENTS = documents()
FENCES = [(document, fence) for document in DOCUMENTS for fence in document.fences()]
TRANSCRIPTS = sorted({document.name for document, fence in FENCES if fence.language == "console"})
RULES = ROOT / "deploy/prometheus/sidecar.rules.yml"

# What the transcripts use and do not show.
FILES = {
    "sidecar.toml": 'relay_hosts = ["127.0.0.1", "192.168.1.0/24"]\nlistener_domains = ["listener_domains.toml"]\n',
    "spam.eml": "From: test@test.com\nTo: mmiihhww09@gmail.com\nSubject: Buy now\n\nOnly today.\n",
    "confirm.eml": "From: noreply@provider.example\nTo: complaints@fbl.example.com\nSubject: Confirm\n\nhttps://provider.example/c\n",
}


def named(pairs: list[tuple[Document, Fence]]) -> list[object]:
    return [pytest.param(fence, id=f"{document.name}:{fence.line}") for document, fence in pairs]


@pytest.mark.parametrize("fence", named(FENCES))
def test_each_block_has_a_runner(fence: Fence) -> None:
    """A block of commands says where a test runs it. Files are TOML or JSON that can be read."""
    assert fence.language in LANGUAGES
    if fence.language == "sh":
        assert len(fence.words) == 1
        assert fence.words[0] in RUNNERS
    elif fence.language == "toml":
        tomllib.loads(fence.text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the transcripts, and the program on its PATH."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    program = tmp_path / "bin" / "sidecar"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m sidecar "$@"\n')
    program.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_transcripts(name: str, folder: Path) -> None:
    """Each command prints what the document shows. A line `...` stands for the rest."""
    environ = {"PATH": f"{folder}/bin:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)}
    for fence in Document(ROOT / name).fences():
        if fence.language in {"toml", "json", "text"} and fence.words and not fence.words[-1].startswith("/"):
            (folder / fence.words[-1]).write_text(fence.text)
        if fence.language != "console":
            continue
        command, _, output = fence.text.partition("\n")
        assert command.startswith("$ ")
        done = subprocess.run(["sh", "-c", command[2:]], cwd=folder, env=environ, capture_output=True, text=True, check=False)
        shown, is_part, _ = output.partition("...\n")
        assert (done.stdout[: len(shown)] if is_part else done.stdout, done.stderr) == (shown, ""), (name, fence.line)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Return each command line of the program in the documents, in text and in blocks, with its place."""
    for document in DOCUMENTS:
        blocks = [line for fence in document.fences() if fence.language in {"sh", "console"} for line in lines(fence)]
        for code in (*document.codes(), *blocks):
            for part in re.split(r"\|\|?|&&|[;>()]", code):
                words = part.split()
                if words[:1] == ["sidecar"] and len(words) > 1 and not words[1].startswith("-"):
                    yield f"{document.name}: {part.strip()}", shlex.split(part)[1:]


def lines(fence: Fence) -> list[str]:
    """Return the commands of a block, each on one line."""
    text = fence.text.replace("\\\n", "")
    return re.findall(r"(?m)^\$ (.*)", text) if fence.language == "console" else text.splitlines()


@pytest.mark.parametrize(("place", "words"), [pytest.param(*each, id=each[0]) for each in commands()])
def test_the_program_knows_its_commands(place: str, words: list[str]) -> None:
    """Each command and option exists. COMMAND stands for any command; text can name an option without its value."""
    if words[0] == "COMMAND":
        return
    root = click.Context(main, info_name="sidecar", **main.context_settings)
    command = main.get_command(root, words[0])
    assert command is not None, place
    with contextlib.suppress(click.BadOptionUsage):
        command.make_parser(click.Context(command, info_name=words[0], parent=root)).parse_args(words[1:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_links(document: Document) -> None:
    """Each link to a file leads to one, and to a heading in it."""
    for link in document.links():
        path, _, anchor = link.target.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (document.path.parent / path).resolve() if path else document.path
        assert target.exists(), link
        if anchor:
            assert anchor in Document(target).anchors, link


def test_references_by_name() -> None:
    """A heading that code or a document names exists: "see the policy reference, Lookup"."""
    sources = [*ROOT.glob("sidecar/**/*.py"), *ROOT.glob("sidecar/**/*.toml"), *(document.path for document in DOCUMENTS)]
    pages = {"policy reference": "policy.md", "operations guide": "operations.md", "records reference": "records.md"}
    found = 0
    for source in sources:
        text = re.sub(r"\s*\n[\s#]*", " ", source.read_text())
        for page, name in re.findall(r"(policy reference|operations guide|records reference), ([A-Za-z_]+(?: [a-z]+)*)", text):
            headings = Document(FOLDER / pages[page]).headings
            assert any(heading == name or name.startswith(f"{heading} ") for heading in headings), (source, page, name)
            found += 1
    assert found > 5


def test_every_document_is_listed() -> None:
    """The README has at most 150 lines. The index of the documents has each of them."""
    assert (ROOT / "README.md").read_text().count("\n") <= 150
    index = Document(FOLDER / "README.md")
    listed = {(FOLDER / link.target).resolve() for link in index.links()}
    assert {path.resolve() for path in FOLDER.glob("*.md")} - {index.path} <= listed


def test_fields_of_records() -> None:
    """The reference has every field of a record, in order, and every code of `check`."""
    document = Document(FOLDER / "records.md")
    (fields,) = (table for table in document.tables() if table.section == "Fields")
    names = [name for row in fields.rows for name in re.findall("`([a-z_]+)`", row[0])]
    assert names == list(Record.__struct_fields__)
    (codes,) = (table for table in document.tables() if table.section == "check")
    listed = {row[0].strip("`"): re.findall("`([a-z_]+)`", row[1]) for row in codes.rows}
    kinds = {"warning": WarningCode, "error": ErrorCode, "either": RuntimeCode}
    assert listed == {kind: [*get_args(codes)] for kind, codes in kinds.items()}


def test_alert_rules() -> None:
    """Each metric and label value of the rules exists, each alert is in the guide, and Prometheus accepts the file."""
    text = RULES.read_text()
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    known = {f"sidecar_{family.name}{end}": family for family in (*FAMILIES, REPORT_FORMS) for end in ends[family.kind]}
    used = re.findall(r"(sidecar_\w+)(?:\{(\w+)=\"(\w+)\"\})?", text)
    assert len(used) > 10
    for name, label, value in used:
        family = known[name]
        if label:
            assert value in {values[family.labels.index(label)] for values in family.values}
    alerts = set(re.findall(r"alert: (\w+)", text))
    guide = Document(FOLDER / "operations.md")
    assert {row[0].strip("`") for table in guide.tables() if table.head[0] == "alert" for row in table.rows} == alerts
    if (promtool := shutil.which("promtool")) is not None:
        subprocess.run([promtool, "check", "rules", RULES], check=True, capture_output=True)


@pytest.mark.parametrize("fence", named([pair for pair in FENCES if pair[1].words == ("source",)]))
def test_commands_in_a_clone(fence: Fence) -> None:
    """Each target of make exists, and each other program of a clone."""
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    for line in fence.text.splitlines():
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            for target in words[1:]:
                assert re.search(rf"(?m)^{re.escape(target)}:", makefile), line
        else:
            assert (ROOT / words[0]).exists(), line


@pytest.mark.parametrize("fence", named([pair for pair in FENCES if pair[1].words == ("docker",)]))
def test_commands_for_containers(fence: Fence, tmp_path: Path) -> None:
    """Each service exists, and each command of the program in its container works with the files of deploy/docker."""
    compose = (ROOT / "deploy/docker/compose.yaml").read_text()
    for line in lines(fence):
        words = line.strip().removesuffix("|").split()
        assert words[:4] == ["docker", "compose", "-f", "deploy/docker/compose.yaml"]
        assert words[4] in {"up", "logs", "ps", "run", "exec", "kill"}
        for service in {"sidecar", "postfix", "relay-domains"} & set(words[5:]):
            assert f"\n  {service}:\n" in compose
        if "check" in words:
            etc = shutil.copytree(ROOT / "deploy/docker/etc", tmp_path / "etc")
            settings = etc / "sidecar.toml"
            # Another program of this machine can listen on the port.
            settings.write_text(settings.read_text().replace(":8893", f":{free_port()}"))
            inside = [word.replace("/etc/sidecar", str(etc)) for word in words[words.index("check") :]]
            subprocess.run([sys.executable, "-m", "sidecar", *inside], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    docker = ["docker", "compose"]
    if shutil.which("docker") and subprocess.run([*docker, "version"], capture_output=True, check=False).returncode == 0:
        command = [*docker, "-f", "deploy/docker/compose.yaml", "config", "--quiet"]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
