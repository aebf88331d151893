"""Peak rates of a GPU, and the rates that training reaches."""
