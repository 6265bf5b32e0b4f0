"""Decisions computed again from the audit log alone."""
