"""Time and cost of a run: measured, predicted, fitted to a budget, and compared with the outcome."""
