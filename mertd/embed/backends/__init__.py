"""The backends that run the network, one or two files each, and the choice between them."""
