"""What nobody wrote, given to whatever reads it: an answer or one typed error, in bounded time."""
