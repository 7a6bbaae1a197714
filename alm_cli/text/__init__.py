"""Text as recognisers write it: languages, tokens, words."""
