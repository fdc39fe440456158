"""What ``backbones/analyze.py`` computes and draws: Table 1, Fig. 7, and the curves of Figs. 1, 4 and 6."""
