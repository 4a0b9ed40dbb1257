"""Programs that others wrote, at the sidecar's milter socket: client libraries, simulators and MTAs."""
