"""A second milter beside the sidecar, on pymilter: `python -m tests.deploy.second_milter SOCKET ANSWER`.

It writes the name of each event that it sees, and answers the end of each message with ANSWER: accept, reject or tempfail.
"""

import sys

import Milter

ANSWERS = {"accept": Milter.ACCEPT, "reject": Milter.REJECT, "tempfail": Milter.TEMPFAIL}


class Second(Milter.Base):  # type: ignore[misc]  # pymilter has no annotations
    """It continues until the end of the message."""

    def envrcpt(self, *_: str) -> int:
        """Report that a recipient arrived."""
        return self._seen("rcpt", Milter.CONTINUE)

    def eom(self) -> int:
        """Report that the whole message arrived, and answer it."""
        return self._seen("eom", ANSWERS[sys.argv[2]])

    @staticmethod
    def _seen(event: str, answer: int) -> int:
        sys.stdout.write(f"{event}\n")
        sys.stdout.flush()
        return answer


if __name__ == "__main__":
    Milter.factory = Second
    Milter.runmilter("second", sys.argv[1], 60)
