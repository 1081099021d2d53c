"""One room per published system. Rooms never import each other."""
