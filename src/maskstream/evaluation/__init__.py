"""Scoring results against data sets: a protocol per benchmark, many processes, one report."""
