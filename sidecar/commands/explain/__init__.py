"""`sidecar explain`: what would happen, and why; with `--record`, what happened.

Nothing is imported here: a question need not wait for what reads logs.
"""
