"""What is claimed about speed, runnable: each module is one command (README.md)."""
