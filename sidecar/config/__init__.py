"""Settings: TOML and JSON files made into one frozen `Settings`, or into the whole list of problems they have.

Every problem says the file, the line, the key path, what is wrong and what to write instead. Nothing outside this package
reads a settings file; nothing in it decides about mail.
"""

from sidecar.config.loading import Loaded, Reading, load

__all__ = ["Loaded", "Reading", "load"]
