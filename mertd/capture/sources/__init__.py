"""One file a source. Each has a function `open_source`, which `mertd.capture.source_kinds` names."""
