"""What different executors of a plan can compute in integers, and which numbers they force."""
