"""One rank: the loop that enters a generation, trains, is interrupted, and enters the next."""
