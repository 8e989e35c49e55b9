"""`mertd doctor`: `gather` collects facts, with `probe` in processes of its own; `findings` turns them into findings."""
