"""Reading and writing of files: recordings and tokens. No torch here."""
