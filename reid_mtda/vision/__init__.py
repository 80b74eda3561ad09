"""Pictures and boxes: reading frames, detecting and tracking people, preparing model input."""
