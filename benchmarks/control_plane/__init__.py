"""What benchmarks/rendezvous.py is made of."""
