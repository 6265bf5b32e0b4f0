"""The retraining loop: drift raises an alert, a program makes a better model of collected data, the fleet takes it."""
