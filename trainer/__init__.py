"""The data plane and the command: what trains, and what a person types."""
