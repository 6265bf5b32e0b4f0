"""A graph, float or QDQ, as TFLite: `emit`. One function per ONNX operator under `operators`."""
