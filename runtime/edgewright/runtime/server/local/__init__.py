"""Tensors from processes on the same machine, in memory that both sides map (docs/adr/0021-local-tensors.md)."""
