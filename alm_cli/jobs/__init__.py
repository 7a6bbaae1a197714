"""How many things are done to many files: sources, sinks, reports and the runner between them."""
