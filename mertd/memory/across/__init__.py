"""The same sound on two streams: where it was heard first, and how much later it was heard on the other."""
