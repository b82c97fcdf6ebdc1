"""What the task of segmentation is made of: label maps as samples, the metric, the loss, what is deployed."""
