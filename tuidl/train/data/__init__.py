"""The data: finding, fetching, decoding, drawing, loading and augmenting. Import its modules one by one."""
