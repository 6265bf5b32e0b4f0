"""When and how jobs run: a pure core that decides, in two shells, on the event loop and in a thread."""
