"""The client library, which `mertd.subscribe` comes from."""
