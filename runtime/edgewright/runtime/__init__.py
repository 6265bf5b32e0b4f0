"""The device: an agent that keeps it going, a server that answers, and their telemetry."""
