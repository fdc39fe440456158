"""What the paper's appendix B adds to a trained detector, and today's alternatives.

Box refinement, voting and soft suppression are settings of any detector; global context is trained along; several
scales, mirror images and ensembles need several passes, and ``improved_detector.py`` puts them together.
"""
