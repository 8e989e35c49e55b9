"""`mertd bench`: how fast each part is here, and side by side with what it would replace."""
