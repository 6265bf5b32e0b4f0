"""The parts of `bench.gates`: one promise each."""
