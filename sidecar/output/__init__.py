"""What all commands share: streams, tables, progress, findings, help."""
