"""Engines that the compiler can lower to and run here. One file per engine."""
