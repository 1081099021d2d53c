"""The core that query-based systems share: what decodes masks from queries with masked attention (Mask2Former).

What other rooms put into networks of `transformers` is exported here; everything else is imported from its file.
"""

import logging

from .deformable_attention import deformable_attention
from .transformers_attention import use_fast_attention

__all__ = ["deformable_attention", "use_fast_attention"]

# The library says so of every backbone but Swin; those here are compared with the authors' networks.
logging.getLogger("transformers.models.mask2former.configuration_mask2former").addFilter(
    lambda record: "is not a supported model" not in record.getMessage()
)
