"""The codes of the doctor's findings. Scripts read them, so a test produces each."""

from typing import get_args

import msgspec

from sidecar.commands.doctor.findings import DoctorCode
from sidecar.core.settings.proof import SignSettings
from tests.building import entry
from tests.commands.doctor import test_postfix_checks as postfix
from tests.commands.doctor import test_sendmail_checks as sendmail


def test_every_code() -> None:
    """The mistakes of the other tests and four more cases have all codes, and no other."""
    found = [finding for changes, *_ in postfix.MISTAKES for finding in postfix.findings(changes, files=postfix.TABLES)]
    found += [finding for old, new, *_ in sendmail.MISTAKES for finding in sendmail.findings((old, new))]
    found += postfix.findings(
        {"smtpd_milters": postfix.UNIX}, own=postfix.sidecar(socket=postfix.UNIX), master=postfix.CHROOTED
    )
    found += postfix.findings({"smtpd_milters": postfix.UNIX}, own=postfix.sidecar(socket=postfix.UNIX))
    found += postfix.findings(own=postfix.sidecar(entry("*", log_oob="LogThenRelay")))
    signing = msgspec.structs.replace(postfix.sidecar(), sign=SignSettings())
    found += postfix.findings({"smtpd_milters": "inet:127.0.0.1:8891 inet:127.0.0.1:8893"}, own=signing)
    assert {finding.code for finding in found} == set(get_args(DoctorCode))
