"""What would bring an operator to the NPU: a sentence for the reader, and a rewrite where one is bit-exact."""
