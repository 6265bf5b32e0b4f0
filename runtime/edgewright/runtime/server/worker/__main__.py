"""`python -m edgewright.runtime.server.worker`: started by the server, never by a person."""

from .child import main

main()
