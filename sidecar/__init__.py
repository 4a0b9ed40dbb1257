"""KumoMTA's listener policy for any MTA that speaks the milter protocol.

Start reading in `sidecar.core.session`: one SMTP connection, from its events to its verdicts and records.
"""

__version__ = "0.1.0"
