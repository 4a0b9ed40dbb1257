"""The policy of many nodes: signed revisions in NATS buckets, and the agent that brings them to a node.

Owns the form of a revision and its signature. The keys of a policy and its place on disk are in `config/policy.py`.
"""
