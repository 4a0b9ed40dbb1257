"""What the MTA beside the sidecar must be told, and whether it was told: maps to export, and findings on its settings.

Owns what Postfix and Sendmail do with their settings, as far as the two must agree with the sidecar. Never reads a file and
never runs a program: the commands hand in the text.
"""
