"""Tests that may be looked at after every step: each is a bet whose expected gain is nothing under "not worse".

Whoever starts with 1 and bets on a fair game reaches 1/alpha with a chance of at most alpha, however often one looks
(Ville 1939). All tests here are folds: `advance(evidence, …)` returns the next Evidence, from nothing else, so a test
replayed from its inputs gives the same bits.
"""
