"""Encoders of speech: families of models that make features, and tokens of features."""
