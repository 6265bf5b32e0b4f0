"""Half precision: float16 and bfloat16."""
