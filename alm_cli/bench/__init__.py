"""Measuring: how good decoded audio is and how fast the work goes."""
