"""The rules, one topic per file. A class with a ``name`` in a module of this folder is a rule; there is no list."""
