"""What stops a rollout or a board, and what that rests on."""
