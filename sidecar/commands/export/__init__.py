"""`sidecar export`: the listener domains as the relay control of an MTA."""
