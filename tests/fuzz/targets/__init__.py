"""One module a target: `seeds` gives inputs to begin from, `check` fails where something is untrue of one input."""

TARGETS = (
    "reports",
    "texts",
    "content",
    "session",
    "records",
    "names",
    "translation",
    "conversation",
    "packets",
    "settings",
    "classifier",
    "stalls",
    "proof",
)
BROKEN = "broken"
"""A target that fails on purpose, and is none of those above."""
