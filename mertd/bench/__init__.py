"""`mertd bench`: how fast each part is on this machine, next to the alternatives."""
