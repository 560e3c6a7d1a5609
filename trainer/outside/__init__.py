"""`rendezvous.outside`, by links to its files: see there."""
