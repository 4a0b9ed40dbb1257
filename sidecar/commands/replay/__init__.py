"""`sidecar replay`: stored mail through the session, message by message, and the totals."""
