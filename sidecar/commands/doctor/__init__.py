"""`sidecar doctor`: checks of Postfix's and Sendmail's settings against the sidecar's. Never starts a program."""
