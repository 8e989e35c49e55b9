"""The bus: what daemons publish, kept by NATS JetStream for clients on other machines. docs/bus.md describes it."""
