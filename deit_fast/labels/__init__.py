"""Files of what a teacher answers to the views of each epoch."""
