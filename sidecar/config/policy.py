"""The policy of a fleet: which settings a revision can have, and how they replace those of a node.

Owns which keys are policy, and where the active revision is in the state directory. Never knows how it came there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from sidecar.config.files import UnreadableError, read_content
from sidecar.config.findings import Kind
from sidecar.config.tables import Table
from sidecar.core.settings.values import Source
from sidecar.core.text import counted, quoted

POLICY_FILE: Final = "policy.toml"
"""The settings file of a revision."""

# None is a whole value or section. What is left out belongs to one machine, or is secret.
_KEYS: Final[Mapping[str, Mapping[str, None] | None]] = {
    **dict.fromkeys((
        "relay_hosts", "listener_domains", "reject_at_connect", "decide", "report_size_limit", "recipient_limit",
        "text_bounces", "unparsable_reports", "headers", "original_headers", "bounce_classifier", "compat", "listener",
    )),
    "verify": dict.fromkeys(("maximum_age", "batv", "authserv_ids", "unverified", "domain")),
    "suppression": dict.fromkeys(("trust", "check", "domain", "on_unreadable", "rule")),
}  # fmt: skip
_DIGITS: Final = 15
_UNUSED: Final = Kind(
    "no_effect",
    "The fleet's policy is in use, revision {revision}: this file has {keys} without effect.",
    "Change the policy with `sidecar fleet publish`, and remove {them} here.",
)


class PolicyFile(Struct, frozen=True, kw_only=True):
    """The settings file of a revision, at `path`; `file` names it in findings.

    `beside` begins the names of the other files, which are in the same folder. `revision` is None before it is published.
    """

    path: Path
    file: str
    beside: str = ""
    revision: int | None = None


def policy_folder(state: Path) -> Path:
    """Return the folder of all revisions on this node."""
    return state / "policy"


def active_file(state: Path) -> Path:
    """Return the file with the number of the active revision, which a start loads."""
    return policy_folder(state) / "active"


def candidate_file(state: Path) -> Path:
    """Return the file with the number of the revision that the next reload tries; 0 is the node's own settings."""
    return policy_folder(state) / "candidate"


def policy_in(folder: Path, revision: int) -> PolicyFile:
    """Return the policy of a revision, in its folder below the state directory."""
    beside = f"policy/{revision}/"
    return PolicyFile(path=folder / POLICY_FILE, file=f"{beside}{POLICY_FILE}", beside=beside, revision=revision)


def active_policy(state: Path, sources: list[Source], *, candidate: bool = False) -> PolicyFile | None:
    """Return the active policy of a node, or with `candidate` the one that a reload has to try; None for its own settings.

    The file with the active number becomes a source. The other one does not: it goes when its revision serves. Raise
    UnreadableError.
    """
    revision = _number(candidate_file(state), []) if candidate else None
    if revision is None:
        revision = _number(active_file(state), sources)
    return policy_in(policy_folder(state) / str(revision), revision) if revision else None


def candidate_of(state: Path) -> int | None:
    """Return the number of the revision that a reload has to try, or None. Raise UnreadableError."""
    return _number(candidate_file(state), [])


def _number(path: Path, sources: list[Source]) -> int | None:
    """Return the number in a file; None without a file."""
    try:
        content = read_content(path, str(path), sources)
    except UnreadableError:
        if path.parent.is_dir() and path.exists():
            raise
        return None
    number = content.strip()
    if not number.isdigit() or len(number) > _DIGITS:
        fix = "Remove the folder, and start again: the policy is fetched again."
        raise UnreadableError(f"{path} has no number of a revision.", fix)
    return int(number)


def with_policy(own: Table, policy: Table, revision: int | None) -> Table:
    """Return the settings of a node with those of a revision: it has all policy keys, also those that it does not set."""
    policy.asked = own.asked
    merged = _merged(own, policy, _KEYS)
    unused = [key for key in own.values if _KEYS.get(key, own) is None]
    if unused and revision is not None:
        keys, them = ", ".join(unused), counted(len(unused), "this key", "these keys").partition(" ")[2]
        own.findings.warn(_UNUSED, own.where(unused[0]), revision=revision, keys=keys, them=them)
    return merged


def _merged(own: Table, policy: Table, keys: Mapping[str, Mapping[str, None] | None]) -> Table:
    merged = Table(own.findings, own.file, {}, own.place, own.path, own.spell, asked=own.asked, top=own.top)
    merged.values = {key: value for key, value in own.values.items() if key not in keys}
    for key, inner in keys.items():
        if inner is not None and (key in own.values or key in policy.values):
            part = _merged(own.table(key), policy.table(key), inner)
            merged.parts[key], merged.values[key] = part, part.values
        elif key in policy.values:
            merged.others[key], merged.values[key] = policy, policy.values[key]
    for key in policy.values:
        if key not in keys:
            fix = "Write it into the settings file of each node, and remove it here."
            policy.fault("misplaced_key", key, f"{quoted(policy.path_of(key))} is no part of a fleet's policy.", fix)
    return merged
