"""The suppression list: reports become addresses that are not mailed again.

`rules` decides, `reading` turns records into events, `store` keeps both in SQLite, and `consumer` follows the journal.
"""

from typing import Final

READER: Final = "suppression"
"""The name of its checkpoint in the journal."""
