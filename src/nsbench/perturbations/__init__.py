"""Laws by which inputs are changed, shared by the regularisers and the measures: of ids, and of patches of an image.

Planning imports this page, so it imports no torch.
"""

from typing import Literal

PatchLaw = Literal["patch_gaussian", "ornstein_uhlenbeck", "other_patch"]
"""What a changed patch becomes (`perturbations.patches.PatchChange`)."""
Law = Literal["resample", PatchLaw]
"""The same of any token; `resample`: of an id, another one (Equation 7)."""
