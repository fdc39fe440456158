"""Detection data: readers of COCO and VOC layouts, the built-in digit scenes, and training batches."""
