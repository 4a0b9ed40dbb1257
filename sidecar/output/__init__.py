"""What all commands print with: streams, tables, progress, findings, help."""
