"""Where the sound changes, and where it comes back to something earlier."""
