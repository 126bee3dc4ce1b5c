"""The HTTP routes of the studio, one module per subject."""
