"""A memory published anew, through the real wire: `mertd replay`."""
