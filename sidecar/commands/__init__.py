"""The commands: one module or folder for each, with its own words. No command imports another."""
