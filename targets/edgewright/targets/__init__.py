"""What a target is: boards as validated data, and estimates made from that data."""
