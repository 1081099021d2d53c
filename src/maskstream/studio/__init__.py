"""The browser app: prompt, watch, correct and export (extra ``studio``)."""
