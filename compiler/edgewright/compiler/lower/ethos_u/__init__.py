"""TFLite for Arm's Ethos-U: Vela in a process of its own, its figures, and what it leaves on the CPU."""
