"""The HTTP API under /v1: for devices (enrolment, artifacts) and for whoever holds the admin token."""
