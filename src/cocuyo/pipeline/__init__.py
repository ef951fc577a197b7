"""The three stages composed."""
