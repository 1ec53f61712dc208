"""The stand-in for a node that `hornbeam_erlang.testing` has in memory."""
