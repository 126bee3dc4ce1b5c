"""The studio's HTTP routes, a file for each subject."""
