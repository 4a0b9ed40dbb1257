"""KumoMTA's readers of reports, to the letter: for `compat = "kumomta"`.

A message that KumoMTA cannot read is no report here, and every value of a report is KumoMTA's. From KumoMTA's readers for
RFC 3464 and RFC 5965, and from what a running kumod recorded (August 2026). The limits of `core/reports` apply here too.
"""

from sidecar.core.reports.strict.reading import read_strictly

__all__ = ["read_strictly"]
