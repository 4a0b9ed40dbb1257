"""What the sidecar decides and records. Pure: time, ids, keys and the policy are arguments. Imports nothing else of ours."""
