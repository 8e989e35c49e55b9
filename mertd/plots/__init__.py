"""Pictures to keep, of a time in the memory or of recordings: novelty, self-similarity and path. They need matplotlib."""
