"""The names of the test protocols, for command lines: nothing here needs numpy."""

CENTER, TEN_CROP, MULTI_SCALE = "center", "10-crop", "multi-scale"
PROTOCOLS = (CENTER, TEN_CROP, MULTI_SCALE)
