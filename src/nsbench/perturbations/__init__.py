"""Laws by which inputs are changed, shared by the regularisers and the measures: of ids, and of patches of an image."""
