"""Parts of `bench.native`."""
