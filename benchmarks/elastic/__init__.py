"""Elastic systems side by side: what each does when a worker or a node goes, comes or leaves."""
