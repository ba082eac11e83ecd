"""What a run warns of: functions from numbers of a round to findings, one kind a file.

A number that is exactly at its threshold is healthy, so that 1 silences a share that must not be
above it and 0 one that must not be below.
"""
