"""Many nodes: records and policy over NATS JetStream, and records to HTTP endpoints.

Owns all connections to other machines. No verdict waits for them. Without `[fleet]` and `[[webhook]]` nothing here is imported.
"""

READER = "fleet"
"""The name of the shipper's checkpoint."""
