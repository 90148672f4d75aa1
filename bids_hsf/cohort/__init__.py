"""Many scans side by side: which can be compared, which lie far from the others, what changed, two models."""
