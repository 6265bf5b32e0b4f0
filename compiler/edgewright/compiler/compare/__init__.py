"""`edgewright diff`: which layer of one model departs from another, and by how much."""
