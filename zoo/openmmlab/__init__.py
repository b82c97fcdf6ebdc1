"""What mmyolo needs beside itself: compiled operators, checkpoints, changes of its configs."""
