"""The server process of the device: serves the V2 protocol for the models that the agent gives it."""
