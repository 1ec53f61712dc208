"""The servers that are compared: how each is started, stopped, and what versions it is."""
