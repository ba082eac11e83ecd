"""What runs in a process and virtual environment of its own; each module imports one library."""
