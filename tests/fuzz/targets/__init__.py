"""One module a target: `seeds` gives inputs to begin from, `check` fails where something is untrue of one input."""
