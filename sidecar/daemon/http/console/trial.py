"""The page of a changed listener domains file: what it would change. Nothing is saved."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from sidecar.config.diff.trial import TextTrial
from sidecar.core.evaluate.spelling import set_values, table_lines
from sidecar.core.settings.values import DomainEntry
from sidecar.core.text import in_units
from sidecar.daemon.http.console.forms import Form
from sidecar.daemon.http.console.frame import FormView, Frame, Parts, View
from sidecar.daemon.http.threads import QuestionThread
from sidecar.daemon.http.trial import TrialError, run_trial

TRIAL: Final = "/console/trial"
# A larger file is compared with `sidecar diff`: its text does not fit a text field.
_TEXT_LIMIT: Final = 4 << 20
# A hundred thousand entries on each side take 7 s of CPU time. `sidecar diff` compares more of them.
DOMAINS_LIMIT: Final = 100_000
# The entries in use as lines, where a text field can show them.
_ENTRIES: Final = 2000
_EFFECTS: Final = (("opens", "Opens"), ("closes", "Closes"), ("neither", "Neither opens nor closes"))
_FILE: Final = "listener_domains.toml"


class TrialPage:
    """The form with the domains in use, and the result below it. One trial runs at a time; no connection waits for two."""

    def __init__(self, frame: Frame, parts: Parts) -> None:
        self._frame = frame
        self._settings = parts.plan.settings
        self._thread = QuestionThread(1)
        self.views: Mapping[str, View] = {TRIAL: self.show}
        self.forms = {TRIAL: FormView(answer=self.ask, role="reader")}

    async def show(self, request: Request) -> Response:
        """Answer with the domains in use."""
        entries = list(islice(self._settings.domains, _ENTRIES + 1))
        text = "" if len(entries) > _ENTRIES else "\n".join(_lines(entries))
        return self._answer(request, text, None)

    async def ask(self, request: Request, form: Form) -> Response:
        """Answer with what the text would change."""
        if len(self._settings.domains) > DOMAINS_LIMIT:
            raise HTTPException(
                413, f"The policy has more than {DOMAINS_LIMIT:,} listener domains: compare it with `sidecar diff`."
            )
        text = form.text("domains")
        if (file := form.files.get("file")) is not None:
            text = file.decode("utf-8", "replace")
        if len(text) > _TEXT_LIMIT:
            raise HTTPException(413, f"The text has more than {in_units(_TEXT_LIMIT)}: compare it with `sidecar diff`.")
        try:
            found = await self._thread.do(partial(run_trial, self._settings, text, _FILE))
        except TrialError as error:
            raise HTTPException(503, f"There is no result: {error}.") from error
        return self._answer(request, text, found)

    def _answer(self, request: Request, text: str, found: TextTrial | None) -> Response:
        return self._frame.show(
            request, "trial.html", text=text, found=found, effects=_EFFECTS, file=_FILE, domains=len(self._settings.domains)
        )


def _lines(entries: list[DomainEntry]) -> Iterator[str]:
    for entry in entries:
        yield from (*table_lines(None, {entry.domain: set_values(entry)}, entry.listener), "")
