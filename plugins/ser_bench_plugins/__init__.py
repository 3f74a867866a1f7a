"""The built-in encoders, heads and systems, registered through the same door as a stranger's."""
