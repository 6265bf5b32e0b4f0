"""HTTP/2 (RFC 9113) for a server: bytes in, streams out. It knows nothing of gRPC, of models, or of sockets."""
