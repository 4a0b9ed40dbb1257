"""`sidecar doctor`: checks of Postfix's and Sendmail's settings against the sidecar's.

Never starts a program. The checks read no files themselves: the command passes a function that does.
"""
