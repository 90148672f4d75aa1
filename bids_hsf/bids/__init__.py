"""BIDS: scans in, derivatives out."""
