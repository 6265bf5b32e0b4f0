"""The V2 protocol by gRPC. Imported only by a server that is told to serve it: grpcio and protobuf are an extra."""
