"""Models as machine code by TVM. Its compiler runs in a process of its own: parts of it were seen to crash."""
