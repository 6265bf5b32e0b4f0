"""Parts of bench/quantize.py: nets and data, the peers in environments of their own, and what runs their models."""
