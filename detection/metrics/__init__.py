"""Average precision as COCO and PASCAL VOC define it."""
