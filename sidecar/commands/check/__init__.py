"""`sidecar check`: errors, open relays and probable mistakes in the settings, and what only shows at run time."""
