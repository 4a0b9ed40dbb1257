#!/usr/bin/env python3
"""Keep the table `suppressed` of an application up to date with the suppression list of the sidecar.

Usage: copy_list.py URL TOKEN-FILE DATABASE, such as
copy_list.py http://127.0.0.1:8894 /etc/app/sidecar-token /var/lib/app/app.db

Run it each minute. The first run copies the whole list, and the later ones what has changed since. It needs Python's standard
library only. DATABASE is an SQLite file; another database needs other statements, in the same order.
"""

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

GONE = 410
PAGE = 10_000
TABLES = """
CREATE TABLE IF NOT EXISTS suppressed (address TEXT PRIMARY KEY, reason TEXT, expires TEXT);
CREATE TABLE IF NOT EXISTS suppression_revision (revision INTEGER);
"""

Ask = Callable[..., Any]


def asker(url: str, token: str) -> Ask:
    """Return the function that asks, with the parameters of the query string. It raises HTTPError."""

    def ask(**query: object) -> Any:  # noqa: ANN401 - JSON
        address = f"{url}/v1/suppression?{urlencode({'limit': PAGE, **query})}"
        with urlopen(Request(address, headers={"Authorization": f"Bearer {token}"}), timeout=60) as response:  # noqa: S310 - the caller's
            return json.load(response)

    return ask


def copy_all(database: sqlite3.Connection, ask: Ask) -> None:
    """Replace the table by the whole list, and begin with the revision of its first page: later changes come after it."""
    page = ask()
    revision, entries = page["revision"], page["entries"]
    while page["after"] is not None:
        page = ask(after=page["after"])
        entries += page["entries"]
    with database:
        database.execute("DELETE FROM suppressed")
        put(database, entries)
        keep(database, revision)


def follow(database: sqlite3.Connection, ask: Ask, revision: int) -> None:
    """Apply what has changed since a revision. Each step is in the table whole, or is asked for again."""
    for answer in changes(ask, revision):
        with database:
            for change in answer["changes"]:
                database.execute("DELETE FROM suppressed WHERE address = ?", (change["address"],))
                put(database, [change["entry"]] if change["entry"] else [])
            keep(database, answer["revision"])


def changes(ask: Ask, revision: int) -> Iterator[Any]:
    """Yield answers until there are no more changes."""
    more = True
    while more:
        answer = ask(since=revision)
        yield answer
        revision, more = answer["revision"], answer["more"]


def put(database: sqlite3.Connection, entries: list[dict[str, Any]]) -> None:
    """Add entries to the table."""
    rows = [(entry["address"], entry["reason"], entry["expires"]) for entry in entries]
    database.executemany("INSERT OR REPLACE INTO suppressed VALUES (?, ?, ?)", rows)


def keep(database: sqlite3.Connection, revision: int) -> None:
    """Remember up to which revision the table has the list."""
    database.execute("DELETE FROM suppression_revision")
    database.execute("INSERT INTO suppression_revision VALUES (?)", (revision,))


def main() -> None:
    """Update the table once."""
    try:
        url, token_file, path = sys.argv[1:]
    except ValueError:
        sys.exit("Usage: copy_list.py URL TOKEN-FILE DATABASE")
    try:
        update(url, token_file, path)
    except (OSError, ValueError, sqlite3.Error) as error:
        text = f"{error.code} {error.read().decode(errors='replace').strip()}" if isinstance(error, HTTPError) else error
        sys.exit(f"copy_list.py: {url} with the token in {token_file}, to {path}: {text}")


def update(url: str, token_file: str, path: str) -> None:
    """Update the table in the database at `path`. Raise OSError, sqlite3.Error, and ValueError for a wrong URL or token."""
    token = Path(token_file).read_text().strip()
    if not token.isprintable():
        raise ValueError("the file of the token has more than one line")  # the library would show it
    ask = asker(url, token)
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    row = database.execute("SELECT revision FROM suppression_revision").fetchone()
    try:
        copy_all(database, ask) if row is None else follow(database, ask, row[0])
    except HTTPError as error:
        if error.code != GONE:
            raise
        # The sidecar does not know all changes since: the list was made again, or this program did not run for a week.
        copy_all(database, ask)


if __name__ == "__main__":
    main()
