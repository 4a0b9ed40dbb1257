"""`sidecar simulate`: reports as external hosts send them, through a running MTA, and the comparison with the policy.

It sends only its catalogue, each shape once, and only to the MTA that the operator names.
"""
