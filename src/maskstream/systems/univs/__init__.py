"""UniVS: prompts as queries (Li et al., CVPR 2024)."""
