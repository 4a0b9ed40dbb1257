"""Fixed words of programs, and how they are searched in a text.

Owns the search. Never knows what the words mean.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Searched(Protocol):
    """A text: its words with one space between them, in lower case, and their set."""

    @property
    def flat(self) -> bytes:
        """The text."""

    @property
    def vocabulary(self) -> AbstractSet[bytes]:
        """Its words."""


class PhraseIndex(Generic[T]):
    """Phrases in lower case with single spaces, each with the value that it stands for.

    Each phrase has a key, one of its words. The set of a text's words rules out most keys, and their phrases, at once: a search
    of the whole text for each phrase would cost fifty times as much.
    """

    def __init__(self, entries: Iterable[tuple[bytes, T]]) -> None:
        entries = list(entries)
        common = Counter(word for phrase, _ in entries for word in _inner_words(phrase))
        self._by_key: dict[bytes, list[tuple[int, bytes, T]]] = {}
        for number, (phrase, value) in enumerate(entries):
            # The word that the fewest phrases have, the longest of them.
            key = min(_inner_words(phrase), key=lambda word: (common[word], -len(word)), default=b"")
            self._by_key.setdefault(key, []).append((number, phrase, value))
        self._keys = frozenset(self._by_key) - {b""}
        self._without_key = self._by_key.get(b"", [])

    def found(self, text: Searched) -> list[tuple[bytes, T]]:
        """Return the phrases that a text has, each with its value, in the order of the index."""
        flat = text.flat
        hits = [entry for entry in self._without_key if entry[1] in flat]
        for key in self._keys & text.vocabulary:
            hits += [entry for entry in self._by_key[key] if entry[1] in flat]
        if len(hits) > 1:
            hits.sort(key=_number)
        return [(phrase, value) for _, phrase, value in hits]


class Phrases:
    """Phrases, any of which is searched in a text."""

    def __init__(self, *phrases: bytes) -> None:
        self.phrases = phrases
        self._index = PhraseIndex((phrase, None) for phrase in phrases)

    def are_in(self, text: Searched) -> bool:
        """Return True if a text has one of the phrases."""
        return bool(self._index.found(text))


def _inner_words(phrase: bytes) -> list[bytes]:
    """Return the words with a blank on both sides: a text with the phrase has these as whole words."""
    return phrase.split(b" ")[1:-1]


def _number(entry: tuple[int, bytes, T]) -> int:
    return entry[0]
