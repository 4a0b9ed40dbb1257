"""Faults on purpose: what was answered 250 stays, and nothing passes that may not, whatever breaks meanwhile."""
