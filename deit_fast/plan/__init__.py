"""What a run will take and cost: measured, predicted, fitted to a budget, and compared with what it took."""
