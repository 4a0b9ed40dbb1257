"""The journal: records on disk, one JSON object a line, in segments that are only ever appended to."""
