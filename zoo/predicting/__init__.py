"""What a loaded model finds in an image, as data and drawn."""
