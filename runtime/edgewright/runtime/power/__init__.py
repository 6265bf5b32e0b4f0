"""Power and heat: what the board tells of them, what follows from that, and how it is done."""
