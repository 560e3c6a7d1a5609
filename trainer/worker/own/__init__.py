"""A user's own training function, made elastic: entered anew in every generation."""
