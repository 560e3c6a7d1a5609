"""What several ranks hold alike is compared, never believed: see check.py."""
