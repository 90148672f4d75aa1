"""Command lines: what people type, and what they read."""
