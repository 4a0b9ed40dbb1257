"""The packages in a Debian 12 of their own. `make test-packages` runs these tests: they take minutes, and need root."""
