"""The pages of the policy in use: listener domains, the entry of a name and why it is this one, relay hosts, warnings."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from typing import Final, TypeVar

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from sidecar.config.findings import Findings, position
from sidecar.config.warnings import note_warnings
from sidecar.core.evaluate.spelling import PERMISSIONS, values_of
from sidecar.core.findings import Finding
from sidecar.core.names import NO_DOMAIN, UNLISTED, normal_domain, normal_listener, parents
from sidecar.core.networks import texts
from sidecar.core.settings.domain_table import ListenerDomains, table_of
from sidecar.core.settings.values import ANY_LISTENER, DomainEntry, NetworkList, Where
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.console.rendering import value_words

POLICY: Final = "/console/policy"
_PAGE: Final = 100
# Relay hosts, and values of an entry.
_NETWORKS: Final = 200

T = TypeVar("T")


class Key(Struct, frozen=True, kw_only=True):
    """A key of an entry with its value in words, and its place if a file sets it."""

    name: str
    value: str
    where: Where | None


class FoundEntry(Struct, frozen=True, kw_only=True):
    """The entry of a name on a listener, and how it was found, step by step."""

    name: str
    listener: str
    entry: DomainEntry | None
    keys: list[Key]
    steps: list[str]


class DomainRow(Struct, frozen=True, kw_only=True):
    """An entry in the list."""

    domain: str
    listener: str
    values: str
    where: Where


class Hosts(Struct, frozen=True, kw_only=True):
    """The relay hosts of a listener."""

    listener: str
    networks: list[str]
    where: Where | None


class PolicyPages:
    """The policy of a plan. A thread of its own searches, so that nothing waits for a million domains."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._plan = parts.plan
        self._listeners = table_of(parts.plan.settings.domains).listeners
        self._thread = ThreadPoolExecutor(1, "policy")
        self.views: dict[str, View] = {POLICY: self.show, f"{POLICY}/warnings": self.show_warnings}
        self.forms: dict[str, FormView] = {}

    async def show(self, request: Request) -> Response:
        """Answer with the entry of a name, and the entries whose domain has a part."""
        query = request.query_params
        name, listener, part = (query.get(key, "").strip() for key in ("name", "listener", "part"))
        found, fault, place = None, None, ANY_LISTENER
        try:
            place = normal_listener(listener) if listener else ANY_LISTENER
            found = self._lookup(name, place) if name or ("name" in query and listener) else None
        except ValueError as error:
            fault = f"This cannot be looked up: {error}."
        rows, after = await self._in_thread(lambda: self._rows(part.lower(), place, query.get("after", "")))
        return self._frame.show(
            request,
            "policy.html",
            400 if fault else 200,
            asked={"name": name, "listener": listener, "part": part},
            found=found,
            fault=fault,
            rows=rows,
            after=after,
            listeners=sorted({*self._listeners} - {ANY_LISTENER}),
            total=len(self._plan.settings.domains),
            hosts=list(self._hosts()),
            published=self._frame.status(),
            needs_restart=self._plan.needs_restart,
            compat=self._plan.settings.compat,
            has_fleet=self._plan.settings.fleet is not None,
        )

    async def show_warnings(self, request: Request) -> Response:
        """Answer with the warnings about the policy."""
        return self._frame.show(request, "warnings.html", findings=await self._in_thread(lambda: self._warnings))

    @cached_property
    def _warnings(self) -> list[Finding]:
        # Some seconds for a million domains, once for each policy.
        findings = Findings()
        note_warnings(self._plan.settings, findings)
        return sorted(dict.fromkeys(findings.warnings()), key=position)

    async def _in_thread(self, ask: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, ask)

    # --- one name

    def _lookup(self, spelled: str, listener: str) -> FoundEntry:
        name = spelled.rpartition("@")[2]
        domain = (normal_domain(name) or UNLISTED) if name else NO_DOMAIN
        entry = self._plan.policy.lookup(listener, domain)
        keys = [] if entry is None else list(_keys(entry))
        return FoundEntry(
            name=name, listener=listener, entry=entry, keys=keys, steps=list(self._steps(listener, domain, entry))
        )

    def _steps(self, listener: str, domain: str, entry: DomainEntry | None) -> Iterator[str]:
        """Yield what each map says, in the order of the policy reference, Lookup."""
        if listener != ANY_LISTENER:
            own = self._listeners.get(listener)
            yield f"Entries of {listener}: {'there are none' if own is None else _step(own, domain)}."
            if own is not None and own.find(domain) is not None:
                return
        shared = self._listeners.get(ANY_LISTENER)
        if shared is not None and shared:
            yield f"Entries of every listener: {_step(shared, domain)}."
        if shared is not None and shared.find(domain) is None and entry is not None:
            yield 'The entry "*" is for all names that find nothing else.'
        if entry is None:
            yield "No entry: only hosts that can relay are permitted to send to this name, and no report is accepted."

    # --- the list

    def _rows(self, part: str, listener: str, after: str) -> tuple[list[DomainRow], str | None]:
        domains = self._listeners.get(listener)
        if domains is None:
            return [], None
        names = list(islice(domains.containing(part, after), _PAGE + 1))
        rows = [_row(domains[name]) for name in names[:_PAGE]]
        return rows, names[_PAGE - 1] if len(names) > _PAGE else None

    def _hosts(self) -> Iterator[Hosts]:
        settings = self._plan.settings
        each: list[tuple[str, NetworkList]] = [("every listener", settings.relay_hosts), *settings.listener_relay_hosts.items()]
        for listener, hosts in each:
            yield Hosts(listener=listener, networks=list(islice(texts(hosts.networks), _NETWORKS)), where=hosts.where)


def _step(domains: ListenerDomains, domain: str) -> str:
    found = domains.find(domain)
    if found is not None:
        return f'"{found.domain}" matches' if found.domain != domain else "the entry of this very name matches"
    node = next((one for one in (domain, *parents(domain)) if one and domains.is_node(one)), None)
    if node is None:
        return "nothing matches"
    return f'the search ends at "{node}", which other entries are below, and which has no entry that matches'


def _keys(entry: DomainEntry) -> Iterator[Key]:
    for name in PERMISSIONS:
        where = entry.where(name) if name in entry.steps else None
        yield Key(name=name, value=value_words(values_of(entry, [name])[name]), where=where)


def _row(entry: DomainEntry) -> DomainRow:
    values = values_of(entry, [name for name in PERMISSIONS if getattr(entry, name)])
    words = "; ".join(f"{name} = {value_words(value)}" for name, value in values.items() if value is not False)
    return DomainRow(domain=entry.domain, listener=entry.listener, values=words or "permits nothing", where=entry.where(""))
