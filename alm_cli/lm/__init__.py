"""Families of models that write text."""
