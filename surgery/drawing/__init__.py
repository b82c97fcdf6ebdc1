"""What a module computes, as SVG."""
