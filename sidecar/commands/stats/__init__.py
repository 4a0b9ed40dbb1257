"""`sidecar stats`: count records by type, reason, peer, domain and time.

`plots` needs matplotlib, which is optional: the command imports it only for a picture.
"""
