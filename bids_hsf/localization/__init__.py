"""Where the hippocampi lie: registration of a template, crops."""
