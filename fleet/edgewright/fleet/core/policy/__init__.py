"""What a rollout policy says, how it is read and checked, and queries over devices."""
