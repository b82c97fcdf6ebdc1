"""What the commands end with; 0 where all is well."""

WRONG = 1  # what was looked at is damaged, or not clean
BAD_INPUT = 2  # a name, place or file that cannot be used
