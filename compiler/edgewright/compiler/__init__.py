"""The compiler: a trained model in, one bundle per target and one report out."""
