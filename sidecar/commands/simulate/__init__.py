"""`sidecar simulate`: reports as external hosts send them, through a running MTA, compared with the policy."""
