"""The sections [fleet] and [[webhook]]: where records are shipped to."""

from pathlib import Path

from msgspec import Struct


class PolicyKey(Struct, frozen=True, kw_only=True):
    """An Ed25519 public key, the 32 bytes of RFC 8032, and its name in revisions."""

    id: str
    public: bytes


class FleetSettings(Struct, frozen=True, kw_only=True):
    """The NATS servers that connect many nodes, and what this node is called there.

    `servers` are URLs: `tls://host:port`, or `nats://host:port` for a server that need not have TLS. Streams, buckets and
    subjects begin with `name`. `node` names this node in subjects and message ids. `credentials` is a NATS credentials file
    or a file with an nkey seed; None connects without any. `tls_ca` has the certificates that servers are checked with; None
    means those of the system. A node with `policy_keys` takes its policy from the fleet: only revisions that one of them
    signed. `revision` is the one in use; None is the node's own settings file.
    """

    servers: tuple[str, ...]
    name: str = "sidecar"
    node: str
    credentials: Path | None = None
    tls_ca: Path | None = None
    policy_keys: tuple[PolicyKey, ...] = ()
    revision: int | None = None


class WebhookSettings(Struct, frozen=True, kw_only=True):
    """An HTTP endpoint that gets records. `name` is that of its checkpoint, and permanent.

    `types` are the record types that it gets; empty means all. `secret_file` has the secret that its requests are signed with.
    `tls_ca` is as for the fleet.
    """

    name: str
    url: str
    secret_file: Path
    types: tuple[str, ...] = ()
    tls_ca: Path | None = None
