"""The workshop: simulated people, training and evaluation, with PyTorch."""
