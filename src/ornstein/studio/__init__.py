"""The studio: one process that serves models to a page and to programs, and trains them."""
