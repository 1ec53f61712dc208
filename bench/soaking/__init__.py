"""A long run against one node: clients of all kinds, killed workers, and what is left of it."""
