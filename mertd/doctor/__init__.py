"""`mertd doctor`: facts are gathered (`gather`, with `probe` in processes of its own), and judged (`findings`), apart."""
