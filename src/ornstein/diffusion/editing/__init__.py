"""Editing: measurements undone, gaps filled, samples varied, inverted and interpolated; one edit a file."""
