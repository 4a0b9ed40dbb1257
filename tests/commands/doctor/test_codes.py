"""The codes of the doctor's findings: scripts read them, so each belongs to a finding that a test draws."""

from typing import get_args

from sidecar.commands.doctor.values import DoctorCode
from tests.building import entry
from tests.commands.doctor import test_postfix_checks as postfix
from tests.commands.doctor import test_sendmail_checks as sendmail


def test_every_code_is_drawn() -> None:
    """The slips that the other tests make, and three cases beyond them, draw all codes and no other."""
    found = [finding for changes, *_ in postfix.SLIPS for finding in postfix.findings(changes, files=postfix.TABLES)]
    found += [finding for old, new, *_ in sendmail.SLIPS for finding in sendmail.findings((old, new))]
    found += postfix.findings(
        {"smtpd_milters": postfix.UNIX}, own=postfix.sidecar(socket=postfix.UNIX), master=postfix.CHROOTED
    )
    found += postfix.findings({"smtpd_milters": postfix.UNIX}, own=postfix.sidecar(socket=postfix.UNIX))
    found += postfix.findings(own=postfix.sidecar(entry("*", log_oob="LogThenRelay")))
    assert {finding.code for finding in found} == set(get_args(DoctorCode))
