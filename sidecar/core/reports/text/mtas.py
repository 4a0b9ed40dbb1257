"""The layouts that mail servers write: qmail, Exim, Postfix, Sendmail, Exchange and others.

Owns this part of the table, from the most certain layout to the least. Never reads a message.
"""

from sidecar.core.reports.text.layout import COLON, OUTER, Layout, pattern

MTAS = (
    Layout(
        "james",
        "Apache James",
        (b"failed recipient(s):", b"this is the james mail server"),
        needs=(b"error message:", b"james"),
        as_reply=True,
    ),
    Layout(
        "qmail",
        "qmail and its descendants (netqmail, notqmail, indimail, qmail-ldap, MessageLabs)",
        (
            b"this is the qmail-send program",
            b"i'm afraid i wasn't able to deliver your message to the following",
            b"this is the mail delivery agent at",
            b"there's a problem with the e-mail address(es) you're trying",
        ),
        COLON,
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
        COLON,
        needs=(b"below this line is a copy of the message", b"below the next line is a copy", b"mensaje original adjunto"),
    ),
    Layout(
        "dragonfly",
        "DragonFly Mail Agent",
        (b"this is the dragonfly mail agent",),
        pattern(rb"there was an error delivering your mail to <([^<>\n]{1,512})>"),
    ),
    Layout(
        "qmail",
        "Yahoo, a page of HTML",
        (b"i'm afraid i wasn't able to deliver the following message",),
        pattern(rb"[ \t]{0,4}to: <?(ADDRESS)"),
    ),
    Layout(
        "opensmtpd",
        "OpenSMTPD",
        (
            b"an error has occurred while attempting to deliver a message for the following list of recipients:",
            b"for the following list of recipients:",
            b"this is the mailer-daemon, please do not reply to this e",
        ),
        OUTER,
        needs=(b" error", b"a message is delayed"),
    ),
    Layout(
        "exim",
        "Exim, and 1&1, GMX and Mail.Ru in its words",
        (
            b"the following address(es) failed:",
            *(b"the following addresses failed:", b"the following address failed:"),
            b"the address to which the message has not yet been delivered is:",
            b"the addresses to which the message has not yet been delivered are:",
            b"the message has not yet been delivered to the following addresses:",
            b"the message has not yet been delivered to the following address:",
        ),
        OUTER,
    ),
    Layout(
        "exim",
        "Exim, an address that cannot be read",
        (b"one or more recipient addresses that were incorrectly constructed:",),
        pattern(rb"  [^\n]{0,512}?<([^<>\n]{1,512})>: "),
        certain=True,
    ),
    Layout(
        "exim",
        "Exim, a message that its own rules reject",
        (b"a message that you sent was rejected by the local scanning code",),
        pattern(rb"[^\n@]{0,200}?\b(?:mailbox|user|recipient|address) <?(ADDRESS)"),
        certain=True,
    ),
    Layout(
        "exim",
        "Exim, a message that was not collected",
        (b"the following message, addressed to",),
        pattern(rb"[^\n']{0,200}addressed to '(ADDRESS)'"),
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
        "Postfix, a warning",
        (b"could not be delivered for more than",),
        pattern(rb"<([^<>\n]{1,512})>(?::| \(expanded from)"),
        needs=(b"it will be retried until it is",),
    ),
    Layout("postfix", "Postfix, a lost delivery report", (b"- delivery report unavailable -",), certain=True),
    Layout(
        "postfix",
        "Postfix, without a status part",
        (
            b"could not be delivered to one or more destinations",
            b"could not be delivered to one or more recipients. it's attached below",
        ),
        pattern(rb"<([^<>\n]{1,512})>(?::| \(expanded from)"),
    ),
    Layout(
        "courier",
        "Courier",
        (b"running the courier mail server",),
        COLON,
        needs=(b"cannot be delivered:", b"undeliverable mail", b"delayed mail"),
    ),
    Layout(
        "exchange",
        "Exchange until 2003",
        (b"did not reach the following recipient(s):", b"the following recipient(s) could not be reached:"),
        pattern(rb"[ \t]{0,8}(?:[^\n]{0,200}?\bsmtp=|recipient: \[smtp:)?(ADDRESS)(?=;? on |\]|[ \t\r]{0,4}\Z)"),
    ),
    Layout(
        "exchange",
        "SpamLion, in words of Exchange",
        (b"did not reach the following recipient:",),
        pattern(rb"did not reach the following recipient: (ADDRESS)"),
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
            *(b"no se pudo entregar a estos destinatarios", b"error de entrega a estos destinatarios"),
            b"impossibile recapitare il messaggio ai seguenti destinatari",
            b"falha na entrega a estes destinat",
            b"bezorging aan deze geadresseerden",
            b"couldn't be delivered",
            b"generating server:",
        ),
        pattern(rb"[ \t]{0,8}(?:\*[ \t]{0,4})?(?:[^<>\n@]{0,200}<mailto:|\[)?(ADDRESS)(?=[<>\]]|[ \t\r]{0,8}\Z)"),
        needs=(
            b"diagnostic information for administrators",
            b"informations de diagnostic pour les administrateurs",
            b"diagnoseinformationen f",
            b"para administradores",
            *(b"per gli amministratori", b"voor beheerders", b"returned an error:", b"original message headers:"),
        ),
    ),
    Layout(
        "office365",
        "Office 365, the page for people",
        (b"couldn't be delivered",),
        pattern(rb"[ \t]{0,8}your message to <?(ADDRESS)>? couldn't"),
        here=True,
        needs=(b"reported error", b"error details", b"original message details", b"status code:"),
    ),
    Layout(
        "iis",
        "Microsoft SMTP service",
        (b"delivery to the following recipients failed.", b"delivery to the following recipients has been delayed."),
        needs=(b"automatically generated delivery status",),
    ),
    Layout("domino", "Lotus and HCL Domino", (b"was not delivered to:", b"not yet been delivered to:"), needs=(b"because:",)),
    Layout("netscape", "Netscape Messaging Server", (b"the following recipients did not receive your message:",)),
    Layout("notes", "Lotus SMTP MTA (Notes)", (b"------- failure reasons --------",), certain=True),
    Layout(
        "groupwise",
        "Novell GroupWise",
        (b"the message that you sent was undeliverable to the following:",),
        local=pattern(rb"[ \t]{1,8}([a-z0-9._-]{1,64})(?: \(|[ \t\r]{0,8}\Z)"),
    ),
    Layout("groupwise", "Novell GroupWise until 6", (b"the attached file had the following undeliverable recipient(s):",)),
    Layout(
        "imail",
        "IMail",
        (
            b"unknown user:",
            *(b"user mailbox exceeds allowed size:", b"invalid final delivery userid:"),
            *(b"undeliverable to ", b"delivery failed ", b"unknown local host:", b"unknown host:"),
        ),
        pattern(
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
            b"the attached message had permanent fatal delivery errors",
            b"the attached message has been delayed",
        ),
        pattern(rb"(?:[> \t]{0,8}|(?:failed|delayed) address: )<?(ADDRESS)"),
    ),
    Layout(
        "mdaemon", "MDaemon, an unknown user", (b"- no such user here.",), pattern(rb"(ADDRESS) - no such user here"), here=True
    ),
    Layout(
        "sendmail",
        "Sendmail since 8.7, without a status part",
        (
            b"the following addresses had permanent fatal errors -",
            *(b"the following addresses had fatal errors -", b"the following addresses had transient non-fatal errors -"),
            b"the following addresses had unrecoverable errors -",
        ),
        pattern(rb"[ \t]{0,4}(?:>>> )?(?:<([^<>\n]{1,512})>|(ADDRESS))(?!\.\.\.)"),
    ),
    Layout(
        "sendmail",
        "Sendmail, a warning",
        (b"message still undelivered after", b"will keep trying until message is"),
        pattern(rb"<?(ADDRESS)>?\.\.\. "),
        here=True,
        needs=(b"transcript of session follows",),
    ),
    Layout(
        "sendmail5",
        "Sendmail 5 and before 8.7",
        (b"----- transcript of session follows -----",),
        pattern(rb"5[0-9]{2} (?:5\.\d{1,3}\.\d{1,3} )?<?(ADDRESS)>?\.\.\. "),
        needs=(b"- unsent message", b"- returned message", b"- message header follows"),
        certain=True,
        reply_before=True,
    ),
    Layout(
        "james",
        "Apache James, a short text",
        (b"error message below:",),
        pattern(rb"[ \t]{0,8}rcpt to: (ADDRESS)"),
        needs=(b"message details:",),
        as_reply=True,
    ),
)
"""The layouts of mail servers."""
