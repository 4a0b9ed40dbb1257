"""`sidecar suppression`: the suppression list."""
