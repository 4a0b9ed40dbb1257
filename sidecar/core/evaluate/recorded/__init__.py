"""Recorded decisions under a configuration: does it agree, what do later records add, and which change decides otherwise."""
