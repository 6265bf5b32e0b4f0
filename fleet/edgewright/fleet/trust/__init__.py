"""Who may do what, and the record of what was done: credentials and the hash-chained audit log.

The two TUF repositories (image and director, docs/formats/trust.md) take their place here.
"""
