"""Recipient addresses that try to reach another domain than the one they seem to name.

Owns the addresses, and how Postfix's log is read for where a message went. Never sends one.
"""

import re
from collections.abc import Sequence

from tests.mta.client import Answer
from tests.mta.house import House
from tests.mta.processes import wait_until

EVIL = "evil.example"
LONG = "a." * 300
# What stands between the brackets of RCPT TO; `o` is a domain of ours, `e` one that nobody opened.
FORMS = """\
user@{e}
@{o}:user@{e}
@{o},@{o}:user@{e}
@{e}:user@{o}
@{e},@{o}:user@{o}
@{o}:@{e}:user@{o}
@{o}@{e}:user@{o}
user%{e}@{o}
user%{e}%{o}@{o}
user%{o}@{e}
user%{e}
{e}!user@{o}
{e}!user
{o}!{e}!user
{o}!user@{e}
{e}!user%{o}@{o}
user@{e}@{o}
user@{o}@{e}
user@{e}@
user@{e}@@{o}
user@@{e}
@{e}@{o}
@{e}
@
@{o}:
"user@{e}"@{o}
"user@{o}"@{e}
"user%{e}"@{o}
"{e}!user"@{o}
"user@{e}
"user@{e}"
"user"@{e}@{o}
"@{o}:user@{e}"@{o}
us"er@{e}"@{o}
"user\\"@{e}"@{o}
"user"%{e}@{o}
user\\@{e}@{o}
user\\%{e}@{o}
user@{o}\\@{e}
user@{e}\\@{o}
user@[192.0.2.1]
user@[IPv6:2001:db8::1]
user%[192.0.2.1]@{o}
user@[{o}]
user@[{e}]
user@192.0.2.1
user@3221225985
user@#3221225985
user@{e}.
user%{e}.@{o}
user%{e}@{o}.
user@{o}..{e}
user@.{e}
user@{o}.{e}
user@{e}.{o}
user@EvIl.ExAmPlE
USER%EVIL.EXAMPLE@{o}
=?utf-8?q?user=40{e}?=@{o}
=?utf-8?q?user?=@{e}
user%40{e}@{o}
user%25{e}@{o}
user=40{e}@{o}
user&#64;{e}@{o}
user\\x40{e}@{o}
user@{o}%2e{e}
user@{o}%00.{e}
user@{o}%{e}
user@evil。example
user@evil．example
user@ｅｖｉｌ.example
user＠{e}@{o}
user％{e}@{o}
{e}！user@{o}
user@{o}＠{e}
user@{e}\u200b
user@{e}\u00ad@{o}
user@~{e}
user%~{e}@{o}
user@{o}.~{e}
~@{e}
user
postmaster
root
user@mx.example
user@localhost
user%{e}@mx.example
{e}!user@localhost
user%{e}@[127.0.0.1]
user%{e}@[10.1.1.1]
user@{o}\x00.{e}
user%{e}\x00@{o}
user\x00@{e}@{o}
user@{o}\x01.{e}
user@{o}\t.{e}
user@{o} {e}
user@{e} @{o}
user@ {e}
user @{e}
user@{e},user@{o}
user@{o},user@{e}
user@{e};user@{o}
group:user@{e};@{o}
user@{e}><user@{o}
user@{o}><user@{e}
user@{e}(x@{o})
user@{e} (x@{o}
user(@{o})@{e}
(@{e})user@{o}
user@{o}({e})
user@({o}){e}
user@{o}:user@{e}
{e}:user@{o}
{e}::user@{o}
{e}^user@{o}
user@{o}:25
user@{o}/{e}
|relay {e}@{o}
/var/tmp/x@{o}
:include:/var/tmp/x@{o}
\\user%{e}@{o}
user@{o}\udcff.{e}
user%{e}\udcff@{o}
""".splitlines()

# The whole argument of RCPT TO, with what a lenient parser might make of it.
ARGUMENTS = """\
user@{e}
user@{o},user@{e}
<user@{o}>user@{e}
<user@{o}> <user@{e}>
<user@{e}> <user@{o}>
<user@{o}><user@{e}>
<<user@{e}>@{o}>
user@{e} <user@{o}>
"user@{e}" <user@{o}>
<user@{o}> ORCPT=rfc822;user@{e}
<user@{o}
user%{e}@{o}
<@{o}:<user@{e}>>
 <user%{e}@{o}>
""".splitlines()
TRICKS = [*(f"<{form}>" for form in FORMS), *ARGUMENTS]

# Envelope senders that look as if they were in send.example, and are not.
SENDERS = """\
@send.example:user@{e}
@send.example,@x.example:user@{e}
"user@send.example"@{e}
user%send.example@{e}
send.example!user@{e}
user@send.example@{e}
user@send.example@
user@send.example.{e}
user@x.send.example
user@xsend.example
user@{e} (@send.example
user@{e}(@send.example)
(user@send.example)user@{e}
<user@{e}>@send.example
<user@send.example>@{e}
user@[send.example]
user@send.example\\.{e}
send.example
@send.example
"@send.example"
user@send.example\u200b.{e}
""".splitlines()


# The line that ends a message. Of the others, those that name a recipient after all rewriting.
_ENDED = re.compile(r"(?m): (\w+): (?:removed$|milter-discard: END-OF-MESSAGE )")
_DELIVERED = re.compile(r"(?m): (\w+): to=<(.*?)>, (?:orig_to|relay)=")


def hosts_of_postfix(home: House, taken: Sequence[Answer], *, since: int = 0) -> set[str]:
    """Return the domains of the addresses to which Postfix delivered by its log from byte `since` on, after all rewriting."""
    ids = {answer.text.rpartition(" ")[2] for answer in taken}

    def log() -> str:
        with home.postfix.log.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    # The queue may be empty before postlogd has written the lines. The line that ends a message comes after its others.
    if not ids:
        return set()
    wait_until(lambda: ids <= set(_ENDED.findall(log())), "Postfix's log tells what became of the messages")
    home.delivered()
    return {address.rpartition("@")[2].lower().rstrip(".") for one, address in _DELIVERED.findall(log()) if one in ids}


def filled(form: str, ours: str = "") -> str:
    """Return a form with its domains filled in."""
    return form.replace("{o}", ours).replace("{e}", EVIL).replace("~", LONG)
