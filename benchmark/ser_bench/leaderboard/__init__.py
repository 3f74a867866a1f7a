"""The leaderboard: rows from records, rendered."""
