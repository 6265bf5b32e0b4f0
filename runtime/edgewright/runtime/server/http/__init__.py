"""HTTP/1.1: bytes in, requests in order, responses in the same order out."""
