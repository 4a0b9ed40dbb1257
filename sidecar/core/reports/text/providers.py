"""The layouts that mailbox providers and gateways write.

Owns this part of the table. Never reads a message.
"""

from sidecar.core.reports.text.layout import COLON, Layout, pattern

PROVIDERS = (
    Layout(
        "yahoo",
        "Yahoo",
        (b"sorry, we were unable to deliver your message to the following address",),
        COLON,
    ),
    Layout("x2", "X2: Yahoo until 2012, and others", (b"unable to deliver message to the following address(es)",), COLON),
    Layout(
        "x2",
        "X2, with the step of the session",
        (b"your delivery to the following address has been failed",),
        pattern(rb"delivery failed: (ADDRESS)"),
    ),
    Layout("x4", "X4: a qmail of mail hosters", (b"your mail message to the following address(es) could not be",), COLON),
    Layout(
        "workmail",
        "Amazon WorkMail",
        (b"an error occurred while trying to deliver the mail to the following recipients:",),
        needs=(b"technical report:",),
    ),
    Layout("x5", "X5: a MOS mail server", (b"the following addresses had permanent delivery errors -",)),
    Layout(
        "fml",
        "FML, a list manager",
        (b"you are not a member of this mailing list <", b"duplicated message-id in <"),
        pattern(rb"(?:you are not a member of this mailing list|duplicated message-id in) <([^<>\n]{1,512})>"),
        here=True,
        needs=(b"fml",),
    ),
    Layout(
        "zoho",
        "Zoho Mail",
        (b"this message was created automatically by mail delivery s",),
        pattern(rb"(?:\[status: \w{1,20}, address: <)?(ADDRESS)[> ]"),
        needs=(b"error_code :", b"responsecode"),
    ),
    Layout(
        "mxlogic",
        "MX Logic",
        (b"a message that you have sent could not be delivered to one or more recipients",),
        pattern(rb"  <([^<>\n]{1,512})>:"),
    ),
    Layout(
        "sendgrid",
        "SendGrid",
        (b"not able to be delivered to one of its intended recipients",),
        pattern(rb"[^\n<>]{0,100}<([^<>\n]{1,512})> ?:"),
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
    Layout(
        "interscan",
        "InterScan (Trend Micro)",
        (b"message from interscan",),
        pattern(rb"(?:[^\n]{0,40}?unable to deliver message to|sent <<< rcpt to:) ?<([^<>\n]{1,512})>"),
        certain=True,
    ),
    Layout(
        "interscan",
        "InterScan, another text",
        (b"sent <<< rcpt to:",),
        pattern(rb"sent <<< rcpt to: ?<([^<>\n]{1,512})>"),
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
        pattern(rb"-- (ADDRESS)"),
    ),
    Layout(
        "sendmail",
        "Sendmail 8.6",
        (b"----- the following addresses had delivery problems -----",),
        needs=(b"- transcript of session follows -",),
    ),
    Layout(
        "mcafee",
        "McAfee, and Biglobe",
        (
            b"--- the following addresses had delivery problems ---",
            b"the following addresses had delivery problems",
        ),
    ),
    Layout(
        "x1",
        "X1: Mail2000",
        (b"---the following addresses had delivery errors---",),
        pattern(rb"(ADDRESS) \["),
    ),
    Layout(
        "verizon",
        "Verizon",
        (b"error message below:",),
        pattern(rb"[ \t]{0,8}rcpt to: (ADDRESS)"),
        needs=(b"message details:",),
        sender="post_master@",
        as_reply=True,
    ),
    Layout(
        "verizon",
        "Verizon, a picture message",
        (b"message could not be delivered to mobile",),
        pattern(rb"[ \t]{0,8}to: (ADDRESS)"),
        needs=(b"no valid recipients",),
    ),
    Layout(
        "kddi",
        "KDDI and au",
        (b"could not be delivered to: <",),
        pattern(rb"[ \t]{0,8}could not be delivered to: <([^<>\n]{1,512})>"),
        here=True,
        needs=(b"your mail sent on:", b"your mail attempted to be delivered on:", b"mailbox is full"),
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
        pattern(rb"[ \t]{0,8}(?:recipient: )?<([^<>\n]{1,512})>"),
        here=True,
    ),
    Layout(
        "x6",
        "X6: a gateway that counts errors",
        (b"we had trouble delivering your message. full details follow:",),
        pattern(rb"[^\n]{0,80}?(?:returned permanent errors: |rejected recipient )<?(ADDRESS)"),
        certain=True,
    ),
    Layout(
        "mailfoundry",
        "MailFoundry",
        (b"unable to deliver message to: <",),
        pattern(rb"unable to deliver message to: <([^<>\n]{1,512})>"),
        here=True,
        needs=(b"delivery failed for the following",),
    ),
    Layout("mfilter", "m-FILTER", (b"-------server message",), here=True, needs=(b"-------smtp command",)),
    Layout(
        "aol",
        "AOL",
        (b"your mail to the following recipients could not be delivered because",),
        local=pattern(rb"[ \t]{1,8}([a-z0-9._-]{1,64})[ \t\r]{0,8}\Z"),
    ),
    Layout(
        "usanet",
        "USA.NET",
        (b"has been returned because it encountered an error",),
        pattern(rb"intended recipient: <?(ADDRESS)"),
        here=True,
    ),
    Layout("mimesweeper", "MIMEsweeper", (b"a message could not be delivered to:",), by_mailer=True),
    Layout(
        "surfcontrol",
        "SurfControl",
        (b"your message could not be sent. a transcript of the attempts",),
        pattern(rb"addressed to:[ \t]{0,4}<?(ADDRESS)"),
    ),
    Layout(
        "phquery",
        "phquery, a directory",
        (b"--message not delivered to the following",),
        pattern(rb"[ \t]{1,20}(ADDRESS)(?=[ \t\r]{2}|[ \t\r]?\Z)"),
        certain=True,
    ),
)
"""The layouts of providers and gateways."""
