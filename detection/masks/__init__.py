"""Instance masks: how they are stored, pasted into pictures, and prepared for training."""
