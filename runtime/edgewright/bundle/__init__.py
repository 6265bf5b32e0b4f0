"""The bundle: the one format that compiler, device and fleet share (docs/formats/bundle.md)."""
