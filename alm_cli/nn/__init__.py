"""The kit of parts.

Shape letters, once: B batch, C channels, T samples, F frames, K codebooks, D features, H heads,
S sequence, V vocabulary, M mel bands. Convolution parts take [B, C, T], sequence parts [B, S, D].
"""
