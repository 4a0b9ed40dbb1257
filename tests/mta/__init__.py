"""A real Postfix with a running sidecar at its side, nothing mocked."""
