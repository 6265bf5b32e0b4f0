"""What decides in the fleet. Pure: time, randomness and rows come in, commands come out."""
