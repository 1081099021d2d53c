"""The core that query-based systems share: what decodes masks from queries with masked attention (Mask2Former).

What other rooms put into networks of `transformers` is exported here; everything else is imported from its file.
"""

from .deformable_attention import deformable_attention
from .transformers_attention import use_fast_attention

__all__ = ["deformable_attention", "use_fast_attention"]
