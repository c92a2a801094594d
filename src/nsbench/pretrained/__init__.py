"""Pretrained models, and checkpoints of nsbench runs, behind one small interface; and what is measured on them."""
