"""The fleet: devices, releases, rollouts with gates, drift, audit, and the console that shows them."""
