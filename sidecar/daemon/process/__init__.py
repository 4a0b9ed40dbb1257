"""The supervisor: prefork, readiness, reload, restart with backoff, orderly stop. nginx's model.

Owns processes. Never sees a message. It imports nothing here: `check` and `status` need only a part of it.
"""
