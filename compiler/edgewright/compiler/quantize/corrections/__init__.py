"""What makes rounding cost less: factors that move between weights, and the mean error that goes into the bias."""
