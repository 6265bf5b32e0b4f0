"""What GET /metrics prints: our names in base units, and Triton's names for the dashboards that know those."""
