"""`sidecar diff`: compare two configurations, as rules and as verdicts on recorded envelopes."""
