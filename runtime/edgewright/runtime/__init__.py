"""The device: an agent that keeps it going, a server that answers, and their telemetry."""

import os

# ONNX Runtime's wheels report usage to their maker over the network, from version 1.31 on, unless told not to before
# they are imported. Nothing of ours calls home; who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
