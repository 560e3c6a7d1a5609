"""The name under which Remesh's processes start; what they run is in `trainer` and `rendezvous`."""
