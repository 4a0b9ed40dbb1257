"""Questions to one configuration without an MTA: what would happen to a message, and what happens to a recorded envelope."""
