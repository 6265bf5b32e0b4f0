"""The agent: slots, updates, supervision, the link to the fleet. Small on purpose: no numpy, no engine."""
