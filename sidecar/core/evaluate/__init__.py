"""One question put to the policy, without an MTA: what would happen, and why."""
