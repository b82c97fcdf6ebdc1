"""The method's replacement dictionary: five kinds of entry, under the names of its publication."""
