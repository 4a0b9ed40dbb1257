"""Fixed words of programs, and how they are searched in a text.

Owns the search. Never knows what the words mean.
"""

from collections.abc import Set as AbstractSet


class Phrases:
    """Phrases in lower case with single spaces, any of which is searched in a text.

    A set of the text's words rules most phrases out: a search of the whole text for each would cost ten times as much.
    """

    def __init__(self, *phrases: bytes) -> None:
        self._phrases = [(phrase, _key(phrase)) for phrase in phrases]

    def find(self, flat: bytes, words: AbstractSet[bytes]) -> bytes | None:
        """Return the first of the phrases that a text has, or None. `words` are the text's words."""
        for phrase, key in self._phrases:
            if (not key or key in words) and phrase in flat:
                return phrase
        return None


def _key(phrase: bytes) -> bytes:
    """Return the longest word with a blank on both sides, or `b""`."""
    return max(phrase.split(b" ")[1:-1], key=len, default=b"")
