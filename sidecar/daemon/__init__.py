"""What `sidecar run` starts: the milter, its processes, and HTTP."""
