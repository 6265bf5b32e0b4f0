"""What a .tflite file holds, as plain data; reading it from bytes that may be hostile, and writing it."""
