"""`sidecar stats`: count records by type, reason, peer, domain and time."""
