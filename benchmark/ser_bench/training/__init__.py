"""Training on stored frames: batches, loss, the loop, prediction."""
