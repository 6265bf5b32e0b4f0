"""Guards against sums of products that saturate at 16 bits."""
