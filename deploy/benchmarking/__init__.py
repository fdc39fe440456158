"""How fast models are in their engines."""
