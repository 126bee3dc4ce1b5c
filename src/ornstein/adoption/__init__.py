"""Models of other libraries as denoisers: one family of conventions a file, all of them read through `Estimate`."""
