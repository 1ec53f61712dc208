"""What travels between a worker and the BEAM: docs/wire.md, its bytes and its credit. Pure."""
