"""The whole check of the project on a GPU, as one command (README.md)."""
