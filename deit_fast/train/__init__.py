"""From batches to a trained model: loss, optimiser, schedule, average, evaluation, checkpoints, ranks, the loop."""
