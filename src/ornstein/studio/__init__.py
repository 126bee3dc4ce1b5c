"""The studio: one process that trains models and serves them to a web page and to programs."""
