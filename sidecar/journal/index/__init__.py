"""The index of the journal for the console: rows to search, and totals in time buckets, in a SQLite database.

`keeping` and `follower` write it. The others read it: `open_index` is where a reader begins. The records stay in the journal.
"""

from sidecar.journal.index.index import FoundRecord, Index, IndexUnavailableError, Position, open_index
from sidecar.journal.index.searching import RowPage, Search
from sidecar.journal.index.store import StoredRow
from sidecar.journal.index.totals import Bucket, Dimension, TopValues

__all__ = [
    "Bucket",
    "Dimension",
    "FoundRecord",
    "Index",
    "IndexUnavailableError",
    "Position",
    "RowPage",
    "Search",
    "StoredRow",
    "TopValues",
    "open_index",
]
