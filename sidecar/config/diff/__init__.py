"""The differences of two configurations as rules: what opens, what closes, and what does neither."""
