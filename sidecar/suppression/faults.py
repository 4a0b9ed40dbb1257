"""What can be wrong with the database of the list, in sentences for the operator: the faults of all databases, and its own."""

from sidecar.journal.database import DamagedError, StoreError, database_faults

__all__ = ["DamagedError", "MissingError", "StoreError", "database_faults"]


class MissingError(StoreError):
    """There is no database yet."""
