"""ZeroMQ on the daemon's side: what it binds, whom it lets in, and what clients may cost it."""
