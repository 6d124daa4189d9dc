"""A write-ahead log for side effects on systems you do not own."""
