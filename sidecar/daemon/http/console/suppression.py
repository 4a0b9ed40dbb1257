"""The pages of the suppression list: its entries, one address, and the forms that add and remove."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final
from urllib.parse import quote, urlencode

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from sidecar.core.suppressed import REASON_LIMIT, EditableList, ListQuery, reason_of
from sidecar.core.text import LATEST
from sidecar.daemon.http.access import caller
from sidecar.daemon.http.console.forms import Form
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.suppression import etag

LIST: Final = "/console/suppression"
_ADDRESS: Final = f"{LIST}/address"
_PAGE: Final = 100
_FILTERS: Final = ("prefix", "domain", "reason", "after")
_TYPED: Final = ("address", "reason", "expires")
# What the person who filled in the form can correct.
_WRONG: Final = frozenset({400, 412})


class SuppressionPages:
    """The pages of a list, or of none."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._list = parts.suppression
        self._has_list = parts.plan.settings.suppression is not None
        self.views: dict[str, View] = {LIST: self.show, _ADDRESS: self.show_address}
        self.forms = {f"{LIST}/add": FormView(answer=self.add), f"{LIST}/remove": FormView(answer=self.remove)}

    async def show(self, request: Request) -> Response:
        """Answer with a page of the list."""
        return await self._page(request)

    async def _page(
        self, request: Request, status: int = 200, *, form: Form | None = None, fault: str | None = None
    ) -> Response:
        """Answer with a page of the list. A form that adds nothing stays as it was filled in, with its fault."""
        asked = {name: request.query_params.get(name, "").strip() for name in _FILTERS}
        if not self._has_list:
            return self._frame.show(request, "no_list.html")
        found = await self._list.read(partial(self._list.own().page, ListQuery(**asked), _PAGE))
        following = None if found.after is None else urlencode({**asked, "after": found.after})
        return self._frame.show(
            request,
            "suppression.html",
            status,
            found=found,
            asked=asked,
            following=following,
            reason_limit=REASON_LIMIT,
            typed={name: "" if form is None else form.get(name) for name in _TYPED},
            fault=fault,
        )

    async def show_address(self, request: Request) -> Response:
        """Answer with all that is known about an address."""
        address = request.query_params.get("address", "").strip()
        if not address:
            raise HTTPException(400, "The address is missing.")
        found = await self._list.history(address)
        tag = "" if found.entry is None else etag(found.entry)
        pending = "pending" in request.query_params
        return self._frame.show(request, "address.html", found=found, tag=tag, pending=pending, reason_limit=REASON_LIMIT)

    async def add(self, request: Request, form: Form) -> Response:
        """Add an address; if it is on the list already, only with the tag of the page that showed it."""
        own = self._list.own()
        try:
            return await self._add(request, form, own)
        except HTTPException as error:
            if error.status_code not in _WRONG:
                raise
            return await self._page(request, error.status_code, form=form, fault=error.detail)
        except ValueError as error:
            return await self._page(request, 400, form=form, fault=f"{error}.")

    async def _add(self, request: Request, form: Form, own: EditableList) -> Response:
        reason, expires = _reason(form), _expires(form.get("expires"))

        def change(address: str) -> str | None:
            return own.add(address, reason, expires=expires, by=caller(request.scope))

        return await self._change(form, change, {"if-none-match": "*"})

    async def remove(self, request: Request, form: Form) -> Response:
        """Remove an address."""
        own, reason = self._list.own(), _reason(form)

        def change(address: str) -> str | None:
            return own.remove(address, reason, by=caller(request.scope))

        return await self._change(form, change, {})

    async def _change(self, form: Form, change: Callable[[str], str | None], conditions: dict[str, str]) -> Response:
        address = form.get("address")
        if tag := form.get("tag"):
            conditions = {"if-match": tag}
        made = await self._list.change(address, change, Headers(conditions))
        pending = "" if made.in_force else "&pending"
        return RedirectResponse(f"{_ADDRESS}?address={quote(made.after.address)}{pending}", 303)


def _reason(form: Form) -> str:
    if (found := reason_of(form.get("reason"))) is None:
        raise HTTPException(400, f"Write a reason: one line of 1 to {REASON_LIMIT} characters.")
    return found


def _expires(day: str) -> int:
    """Return the end of an entry in seconds since 1970: the beginning of a day in UTC, 0 for none."""
    if not day:
        return 0
    try:
        found = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise HTTPException(400, "The day of the end cannot be read: write it as 2030-12-31.") from error
    if not time.time() < found <= LATEST:
        raise HTTPException(400, "The day of the end is over: choose a later one.")
    return found
