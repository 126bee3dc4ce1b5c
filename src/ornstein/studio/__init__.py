"""The studio: one process that starts trainings and serves models to a web page and to programs."""
