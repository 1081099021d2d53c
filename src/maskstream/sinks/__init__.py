"""Where results go: the overlay, the masks, the journal, the report. Sinks know files, not models."""
