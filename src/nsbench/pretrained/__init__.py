"""Pretrained models, and checkpoints of ours, behind one small interface; and what is measured on them."""
