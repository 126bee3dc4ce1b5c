"""Models of other libraries as denoisers: one convention a file, all of them read through `Estimate`."""
