"""Data sets on disk: what a folder holds, images, label maps, annotations; the layouts are in zoo.layouts."""
