"""The V2 (Open Inference) protocol: what the bytes of a request mean, and how an answer is spelled."""
