"""The layouts of bounces that programs write as text, from the most certain to the least.

Owns the table: how a layout begins, how it names a recipient. Never reads a message.
"""

import re
from typing import NamedTuple

_ADDRESS = rb"(?:\"[^\"\n]{1,64}\"|[^\s<>()\[\]:;,\"'|]{1,256})@[^\s<>()\[\]:;,\"'@]{1,255}"


def _pattern(text: bytes) -> re.Pattern[bytes]:
    """Compile a pattern for one line. In it, `ADDRESS` is an address."""
    return re.compile(text.replace(b"ADDRESS", _ADDRESS), re.IGNORECASE)


# A line that begins with an address, perhaps after a bullet and in brackets: `  * <user@example.com>: text`.
_LINE = _pattern(rb"[ \t]{0,20}(?:[*-]{1,2}[ \t]{1,4})?[\"'<\[]{0,2}(?:mailto:|smtp:)?(ADDRESS)")
# The same with an indent of at most three blanks: more of them continue the text of the recipient before.
_OUTER = _pattern(rb" {0,3}[\"'<]{0,2}(ADDRESS)")
# `<user@example.com>: text` at the begin of a line.
_COLON = _pattern(rb"[ \t]?<([^<>\n]{1,512})>(?:[ \t]\([^)\n]{0,512}\)?)?(?:[ \t]?:|\Z)")


class Layout(NamedTuple):
    """One layout of bounces.

    `format` is its permanent word, `program` who writes it. It begins with one of `phrases` (in lower case, single spaces).
    `recipient` is a pattern for a line that names a recipient; it is looked for behind the phrase. With `here` it can be in the
    phrase's own line, or in one before it. `needs` must be in the notice too, or in the X-Mailer. `certain`: the layout alone
    proves a failure, so that the recipient can be missing. `local`: a name without a domain is one at the domain of From.
    `reply_before`: the server's reply is in a line before the recipient's.
    """

    format: str
    program: str
    phrases: tuple[bytes, ...]
    recipient: re.Pattern[bytes] = _LINE
    here: bool = False
    needs: tuple[bytes, ...] = ()
    certain: bool = False
    local: re.Pattern[bytes] | None = None
    reply_before: bool = False


LAYOUTS = (
    Layout(
        "james",
        "Apache James",
        (b"this is the james mail server", b"failed recipient(s):"),
        needs=(b"error message:", b"james"),
    ),
    Layout(
        "yahoo",
        "Yahoo",
        (b"sorry, we were unable to deliver your message to the following address",),
        _COLON,
    ),
    Layout("x2", "X2: Yahoo until 2012, and others", (b"unable to deliver message to the following address(es)",), _COLON),
    Layout("x4", "X4: a qmail of mail hosters", (b"your mail message to the following address(es) could not be",), _COLON),
    Layout(
        "qmail",
        "qmail and its descendants (netqmail, notqmail, indimail, qmail-ldap, MessageLabs)",
        (
            b"this is the qmail-send program",
            b"i'm afraid i wasn't able to deliver your message to the following",
            b"this is the mail delivery agent at",
            b"there's a problem with the e-mail address(es) you're trying",
        ),
        _COLON,
    ),
    Layout(
        "qmail",
        "qmail with a text of its site",
        (
            b"the mta program at",
            b"your message could not be delivered",
            b"your mail was not delivered to the following address",
            b"we were not able to deliver your message to the following address(es)",
        ),
        _COLON,
        needs=(b"below this line is a copy of the message", b"below the next line is a copy", b"mensaje original adjunto"),
    ),
    Layout(
        "dragonfly",
        "DragonFly Mail Agent",
        (b"this is the dragonfly mail agent",),
        _pattern(rb"there was an error delivering your mail to <([^<>\n]{1,512})>"),
    ),
    Layout("opensmtpd", "OpenSMTPD", (b"this is the mailer-daemon, please do not reply to this e",), _OUTER),
    Layout(
        "zoho",
        "Zoho Mail",
        (b"this message was created automatically by mail delivery s",),
        _pattern(rb"(?:\[status: \w{1,20}, address: <)?(ADDRESS)[> ]"),
        needs=(b"error_code :", b"responsecode"),
    ),
    Layout(
        "mxlogic",
        "MX Logic",
        (b"a message that you have sent could not be delivered to one or more recipients",),
        _pattern(rb"  <([^<>\n]{1,512})>:"),
    ),
    Layout(
        "exim",
        "Exim, and 1&1, GMX and Mail.Ru in its words",
        (
            b"the following address(es) failed:",
            b"the following addresses failed:",
            b"the following address failed:",
            b"the address to which the message has not yet been delivered is:",
            b"the addresses to which the message has not yet been delivered are:",
            b"the message has not yet been delivered to the following addresses:",
            b"the message has not yet been delivered to the following address:",
        ),
        _OUTER,
    ),
    Layout(
        "exim",
        "Exim, an address that cannot be read",
        (b"one or more recipient addresses that were incorrectly constructed:",),
        _pattern(rb"  [^\n]{0,512}?<([^<>\n]{1,512})>: "),
        certain=True,
    ),
    Layout(
        "exim",
        "Exim, a message that its own rules reject",
        (b"a message that you sent was rejected by the local scanning code",),
        _pattern(rb"[^\n@]{0,200}?\b(?:mailbox|user|recipient|address) <?(ADDRESS)"),
        certain=True,
    ),
    Layout(
        "exim",
        "Exim, a message that was not collected",
        (b"the following message, addressed to",),
        _pattern(rb"[^\n']{0,200}addressed to '(ADDRESS)'"),
        here=True,
    ),
    Layout(
        "exim",
        "a text in Exim's words without a recipient",
        (b"could not be delivered to one or more of its recipients. one or more of the recipients are not a valid",),
        certain=True,
    ),
    Layout(
        "postfix",
        "Postfix, without a status part",
        (
            b"could not be delivered to one or more destinations",
            b"could not be delivered to one or more recipients. it's attached below",
        ),
        _pattern(rb"<([^<>\n]{1,512})>(?::| \(expanded from)"),
    ),
    Layout("courier", "Courier", (b"running the courier mail server",), _COLON),
    Layout(
        "exchange",
        "Exchange until 2003",
        (b"did not reach the following recipient(s):", b"the following recipient(s) could not be reached:"),
        _pattern(rb"[ \t]{0,8}(?:[^\n]{0,200}?\bsmtp=|recipient: \[smtp:)?(ADDRESS)(?=;? on |\]|[ \t\r]{0,4}\Z)"),
    ),
    Layout(
        "exchange",
        "SpamLion, in words of Exchange",
        (b"did not reach the following recipient:",),
        _pattern(rb"did not reach the following recipient: (ADDRESS)"),
        here=True,
    ),
    Layout(
        "office365",
        "Exchange since 2007 and Office 365",
        (
            b"delivery has failed to these recipients or",
            b"delivery has failed to this recipient",
            b"chec de la remise pour ces destinataires",
            b"fehler bei der nachrichtenzustellung an",
            b"no se pudo entregar a estos destinatarios",
            b"error de entrega a estos destinatarios",
            b"impossibile recapitare il messaggio ai seguenti destinatari",
            b"falha na entrega a estes destinat",
            b"bezorging aan deze geadresseerden",
            b"couldn't be delivered",
            b"generating server:",
        ),
        _pattern(rb"[ \t]{0,8}(?:\*[ \t]{0,4})?(?:[^<>\n@]{0,200}<mailto:|\[)?(ADDRESS)(?=[<>\]]|[ \t\r]{0,8}\Z)"),
        needs=(
            b"diagnostic information for administrators",
            b"informations de diagnostic pour les administrateurs",
            b"diagnoseinformationen f",
            b"para administradores",
            b"per gli amministratori",
            b"voor beheerders",
            b"returned an error:",
            b"original message headers:",
        ),
    ),
    Layout(
        "iis",
        "Microsoft SMTP service",
        (b"delivery to the following recipients failed.",),
        needs=(b"automatically generated delivery status notification",),
    ),
    Layout(
        "x3",
        "X3: a gateway that writes technical details",
        (
            b"delivery to the following recipients failed permanently:",
            b"delevery to the following recipients failed permanently:",
            b"following recipients was aborted after",
        ),
        needs=(b"technical details:",),
    ),
    Layout(
        "gmail",
        "Gmail",
        (
            b"delivery to the following recipient failed permanently:",
            b"delivery to the following recipients failed permanently:",
            b"delivery to the following recipient has been delayed:",
            b"delivery to the following recipients has been delayed:",
        ),
    ),
    Layout("domino", "Lotus and HCL Domino", (b"was not delivered to:",), needs=(b"because:",)),
    Layout("notes", "Lotus SMTP MTA (Notes)", (b"------- failure reasons --------",), certain=True),
    Layout(
        "groupwise",
        "Novell GroupWise",
        (b"the message that you sent was undeliverable to the following:",),
        local=_pattern(rb"[ \t]{1,8}([a-z0-9._-]{1,64})(?: \(|[ \t\r]{0,8}\Z)"),
    ),
    Layout(
        "imail",
        "IMail",
        (
            b"unknown user:",
            b"user mailbox exceeds allowed size:",
            b"invalid final delivery userid:",
            b"undeliverable to ",
            b"delivery failed ",
            b"unknown local host:",
            b"unknown host:",
        ),
        _pattern(
            rb"(?:unknown (?:user|local host|host)|user mailbox exceeds allowed size|invalid final delivery userid"
            rb"|delivery failed \d{1,4} attempts|undeliverable\s{1,4}to)[: ]{1,4}(ADDRESS)"
        ),
        here=True,
        needs=(b"smtp32", b"original message follows"),
    ),
    Layout(
        "mdaemon",
        "MDaemon",
        (
            b"addresses did not receive a copy of",
            b"address did not receive a copy of",
            b"addresses did not receive your message",
        ),
        _pattern(rb"[> \t]{0,8}<?(ADDRESS)"),
    ),
    Layout(
        "mdaemon",
        "MDaemon, an unknown user",
        (b"- no such user here.",),
        _pattern(rb"(ADDRESS) - no such user here"),
        here=True,
    ),
    Layout(
        "interscan",
        "InterScan (Trend Micro)",
        (b"message from interscan",),
        _pattern(rb"(?:[^\n]{0,40}?unable to deliver message to|sent <<< rcpt to:) ?<([^<>\n]{1,512})>"),
        certain=True,
    ),
    Layout(
        "interscan",
        "InterScan, another text",
        (b"sent <<< rcpt to:",),
        _pattern(rb"sent <<< rcpt to: ?<([^<>\n]{1,512})>"),
        here=True,
        needs=(b"received >>>",),
    ),
    Layout("mailmarshal", "MailMarshal", (b"the following recipients were affected:",), needs=(b"could not be delivered",)),
    Layout(
        "mimecast",
        "Mimecast",
        (
            b"attempted to send to the following address could not be delivered:",
            b"addressed to email address :",
            b"attempted to send to the following address(es) could not be delivered:",
        ),
        _pattern(rb"-- (ADDRESS)"),
    ),
    Layout(
        "mcafee",
        "McAfee, and Biglobe",
        (b"--- the following addresses had delivery problems ---", b"the following addresses had delivery problems"),
    ),
    Layout(
        "x1",
        "X1: Mail2000",
        (b"---the following addresses had delivery errors---",),
        _pattern(rb"(ADDRESS) \["),
    ),
    Layout(
        "sendmail",
        "Sendmail since 8.7, without a status part",
        (
            b"the following addresses had permanent fatal errors -",
            b"the following addresses had fatal errors -",
            b"the following addresses had transient non-fatal errors -",
            b"the following addresses had permanent delivery errors -",
            b"the following addresses had unrecoverable errors -",
        ),
        _pattern(rb"[ \t]{0,4}(?:<([^<>\n]{1,512})>|(ADDRESS))"),
        local=_pattern(rb"[ \t]{1,8}\(expanded from: <?(ADDRESS)"),
    ),
    Layout(
        "sendmail5",
        "Sendmail 5 and before 8.7",
        (b"----- transcript of session follows -----",),
        _pattern(rb"5[0-9]{2} (?:5\.\d{1,3}\.\d{1,3} )?<?(ADDRESS)>?\.\.\. "),
        needs=(b"- unsent message", b"- returned message", b"- message header follows"),
        certain=True,
        reply_before=True,
    ),
    Layout(
        "verizon",
        "Verizon",
        (b"message could not be delivered to mobile", b"error message below:"),
        _pattern(rb"[ \t]{0,8}(?:rcpt )?to: (ADDRESS)"),
        needs=(b"no valid recipients", b"message details:"),
    ),
    Layout(
        "kddi",
        "KDDI and au",
        (b"could not be delivered to: <",),
        _pattern(rb"[ \t]{0,8}could not be delivered to: <([^<>\n]{1,512})>"),
        here=True,
        needs=(b"your mail sent on:", b"mailbox is full"),
    ),
    Layout(
        "ezweb",
        "EZweb and docomo",
        (
            b"each of the following recipients was rejected by a remote mail server",
            b"the following recipients did not receive this message:",
            b"the user(s) account is disabled",
            b"the user(s) account is temporarily limited",
        ),
        _pattern(rb"[ \t]{0,8}(?:recipient: )?<([^<>\n]{1,512})>"),
        here=True,
    ),
    Layout(
        "x6",
        "X6: a gateway that counts errors",
        (b"we had trouble delivering your message. full details follow:",),
        _pattern(rb"[^\n]{0,80}?(?:returned permanent errors: |rejected recipient )<?(ADDRESS)"),
        certain=True,
    ),
    Layout(
        "mailfoundry",
        "MailFoundry",
        (b"unable to deliver message to: <",),
        _pattern(rb"unable to deliver message to: <([^<>\n]{1,512})>"),
        here=True,
        needs=(b"delivery failed for the following reason",),
    ),
    Layout("mfilter", "m-FILTER", (b"-------server message",), here=True, needs=(b"-------smtp command",)),
    Layout(
        "aol",
        "AOL",
        (b"your mail to the following recipients could not be delivered because",),
        local=_pattern(rb"[ \t]{1,8}([a-z0-9._-]{1,64})[ \t\r]{0,8}\Z"),
    ),
)
