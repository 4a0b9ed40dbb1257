"""The frozen values that `config` builds, and the table of listener domains."""
