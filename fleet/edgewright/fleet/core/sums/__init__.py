"""Exact sums of cumulative records, by window and by slot."""
