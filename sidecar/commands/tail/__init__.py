"""`sidecar tail`: filters of records, and the line for each record."""
