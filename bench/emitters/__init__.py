"""Parts of `bench.emit`."""
