"""Published weights: found, fetched, read, renamed and put into our models."""
