"""What leaves the device and how: wire envelope, records, counters, spool. Imports neither numpy nor an engine."""
