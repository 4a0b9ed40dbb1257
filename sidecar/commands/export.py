"""`sidecar export`: the domains to which external hosts can send, for the MTA's own relay control.

Owns the formats of Postfix and Sendmail, and what they cannot hold.
"""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from itertools import filterfalse
from pathlib import Path

import click
import idna

from sidecar.core.names import is_literal
from sidecar.core.open_domains import (
    EXPORT_HEAD,
    NAME_THEM,
    PARENT_MATCHES,
    POSTFIX_FILE,
    OpenDomains,
    Pattern,
    boundary,
    everything_open,
)
from sidecar.core.text import printable
from sidecar.output.help import Command
from sidecar.output.problems import config_option, settings_or_exit
from sidecar.output.streams import print_json, write_file

_POSTFIX_HEAD = f"""\
{EXPORT_HEAD} {{command}}
# When the listener domains change, make it again, and then: postfix reload
# Postfix's main.cf needs:
#   relay_domains = {POSTFIX_FILE}
#   parent_domain_matches_subdomains = {PARENT_MATCHES}
"""
_SENDMAIL_HEAD = f"""\
{EXPORT_HEAD} {{command}}
# When the listener domains change, make it again, and then build the access map from it and your other entries.
# In sendmail.mc, FEATURE(`access_db') needs the arguments `skip' and `lookupdotdomain'.
"""


def postfix_relay_domains(domains: OpenDomains, command: str) -> str:
    """Return a pattern file for `relay_domains` (postconf(5)). The first pattern that matches decides, and `!` excludes.

    Deeper names come first, so an exception is before its wildcard. `domains.rest` must be None. `command` makes it again.
    """
    changes = boundary(domains.__contains__, filterfalse(is_literal, domains.names))
    return _POSTFIX_HEAD.format(command=command) + "".join(
        f"{'' if changes[pattern] else '!'}{'.' if pattern.below else ''}{spelled}\n"
        for pattern in sorted(changes, key=lambda found: (-found.name.count("."), _labels(found.name), found.below))
        for spelled in _spellings(pattern.name)
    )


def sendmail_access(domains: OpenDomains, command: str) -> str:
    """Return lines for the access map (cf/README, "access_db"): `To:` the domain of a recipient, RELAY or SKIP.

    Sendmail looks up the domain, all names below its parent (`.parent`), the parent, and so on; SKIP ends that. So each name
    needs a second line for the names below it. `domains.rest` must be None. `command` makes the lines again.
    """
    changes = boundary(domains.__contains__, filterfalse(is_literal, domains.names))
    lines = []
    for name in sorted({pattern.name for pattern in changes}, key=_labels):
        for pattern in (Pattern(name=name, below=False), Pattern(name=name, below=True)):
            verdict = "RELAY" if pattern.probe in domains else "SKIP"
            lines.append(f"To:{'.' if pattern.below else ''}{name}\t{verdict}\n")
    return _SENDMAIL_HEAD.format(command=command) + "".join(lines)


def open_literals(domains: OpenDomains) -> list[str]:
    """Return the open address literals. To Postfix their colon means a table, and Sendmail looks up parts of them."""
    return sorted({pattern.name for pattern in boundary(domains.__contains__, filter(is_literal, domains.names))})


def _labels(name: str) -> list[str]:
    return name.split(".")[::-1]


def _spellings(name: str) -> Iterator[str]:
    """Return the A-labels, and the U-labels if they differ: Postfix compares an address as the peer spelled it (RFC 6531)."""
    yield name
    if "xn--" in name:
        try:
            spelled = idna.decode(name)
        except idna.IDNAError:
            return
        if spelled != name:
            yield spelled


_WRITERS: Mapping[str, Callable[[OpenDomains, str], str]] = {"postfix": postfix_relay_domains, "sendmail": sendmail_access}

# Postfix opens the file as user postfix, and nothing in it is secret.
_MODE = 0o644


@click.command(
    "export",
    cls=Command,
    examples=[
        "sidecar export postfix --config /etc/sidecar/sidecar.toml \\\n    --output /etc/postfix/sidecar-relay-domains",
        "sidecar export sendmail --config /etc/sidecar/sidecar.toml \\\n    --output /etc/mail/sidecar-access",
    ],
    statuses={
        0: "the list is written",
        1: "nothing is written: the settings have errors or no listener domains, or the MTA would be an open relay",
    },
)
@click.argument("mta", type=click.Choice(sorted(_WRITERS)))
@config_option
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path), help="Write FILE in one step, instead of stdout.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs: the text, and what is left out.")
def command(mta: str, config: Path | None, output: Path | None, *, as_json: bool) -> None:
    """Write the list of domains to which external hosts can send, for the MTA.

    The MTA's own relay control reads this list. So the MTA and the sidecar agree, and an MTA that lost its milter line relays
    to no other domain. The first lines of the file name the MTA's settings that it needs.
    """
    if as_json and output is not None:
        raise click.UsageError("--json and --output exclude each other. Write one of them.")
    settings = settings_or_exit(config)
    if not settings.domains:
        where = "These settings have" if config is None else f"{config} has"
        fix = "Write listener_domains into the settings file, or name another file with --config."
        raise click.ClickException(printable(f"{where} no listener domains, so there is nothing to export. {fix}"))
    domains = OpenDomains(settings)
    if (rejection := everything_open(domains, mta.capitalize())) is not None:
        raise click.ClickException(printable(f"{rejection} {NAME_THEM}"))
    text, left_out = _WRITERS[mta](domains, printable(_again(mta, config, output))), open_literals(domains)
    if as_json:
        print_json({"mta": mta, "text": text, "left_out": left_out})
        return
    for literal in left_out:
        click.echo(printable(f"{literal} is left out: {mta.capitalize()} cannot relay to an address literal."), err=True)
    if output is None:
        sys.stdout.buffer.write(text.encode())
    else:
        write_file(output, text.encode(), mode=_MODE)


def _again(mta: str, config: Path | None, output: Path | None) -> str:
    """Return the command that makes the same list again, from any folder."""
    options = {"--config": config, "--output": output}
    named = [f"{option} {shlex.quote(str(path.absolute()))}" for option, path in options.items() if path is not None]
    return " ".join(["sidecar export", mta, *named])
