"""Virtual devices and a virtual broker with seeded faults: the test bed of the fleet, without clocks and sockets."""
