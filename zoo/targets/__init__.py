"""What a device can run: profiles of its operators and limits, in configs/targets/."""
