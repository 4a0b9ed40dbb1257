"""Read TOML and JSON settings files into one frozen `Settings`, or into the complete list of findings.

No other package reads a settings file, and nothing here decides about mail.
"""

from sidecar.config.loading import USUAL_FILE, Loaded, Reading, load, reader_environ, state_directory

__all__ = ["USUAL_FILE", "Loaded", "Reading", "load", "reader_environ", "state_directory"]
