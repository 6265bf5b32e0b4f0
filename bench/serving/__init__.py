"""The parts of bench/serve.py: nets, requests, servers, peers, the load, and what was promised."""
