"""Machine transcripts: made, stored, and compared with the human ones."""
