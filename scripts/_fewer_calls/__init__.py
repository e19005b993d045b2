"""What `scripts/fewer_calls` is made of: the long run, the fits to parts of it, the figures."""
