"""The formats of preference data, one of which every row is in."""
