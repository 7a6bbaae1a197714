"""Codecs: waveforms to tokens and back, one family per file."""
