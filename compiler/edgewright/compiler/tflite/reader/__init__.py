"""TFLite in: a file as a graph, with the quantization that it has."""
