"""Edit a copy of a model in place, look at the result, take back what does not hold."""
