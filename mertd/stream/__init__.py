"""ZeroMQ on both sides: what the daemon binds, and what a client connects with."""
