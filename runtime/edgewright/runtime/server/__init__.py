"""The server: the V2 inference protocol over HTTP/1.1 on TCP and on a Unix socket."""
