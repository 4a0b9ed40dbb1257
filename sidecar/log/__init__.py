"""The program's own log: one event a line, for operators and for programs. `lines` writes them, with structlog.

structlog is loaded with the first line, or when the log is configured: it takes a sixth of the start of a command, and most
commands log nothing.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

VALUE_LIMIT: Final = 512
"""Characters of one value. The longest legitimate ones, an address (RFC 5321: 320) and a domain, fit."""


def configure(*, level: str = "info", format: str = "auto", stream: TextIO | None = None) -> None:  # noqa: A002 - the setting's name
    """Set the lowest level that is written ("debug", "info", "warning", "error"), the format, and the output.

    `format` is "json", "console", or "auto": console on a terminal, JSON elsewhere. `stream` None is standard error. In the
    systemd journal each line begins with its priority (sd-daemon(3)). Can be called again, and affects loggers in use. Before
    the first call, warnings and errors are written to standard error.
    """
    from sidecar.log import lines  # noqa: PLC0415 - see the module

    lines.configure(level=level, format=format, stream=stream)


def get(name: str) -> "FilteringBoundLogger":
    """Return the logger of a component; its lines have `component=name`. May be called before `configure`."""
    return cast("FilteringBoundLogger", _LazyLogger(name))


class _LazyLogger:
    """Has the methods of the logger that it makes when the first of them is used."""

    def __init__(self, component: str) -> None:
        self._component = component

    @cached_property
    def _logger(self) -> "FilteringBoundLogger":
        from sidecar.log import lines  # noqa: PLC0415 - see the module

        return lines.logger(self._component)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the logger has
        return getattr(self._logger, name)
