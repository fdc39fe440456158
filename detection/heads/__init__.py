"""Where the network is cut between image and region: sibling files, one for each design, with the same methods."""
