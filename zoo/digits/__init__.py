"""How digit scenes are drawn; the generators are in zoo.datasets."""
