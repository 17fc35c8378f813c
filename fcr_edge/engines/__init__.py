"""TensorRT engines: built on the device from a bundle's 16-bit graphs, held against 32 bits, kept.

A bundle carries no engines: a plan is native code, bound to one GPU and one TensorRT, and loading
one from elsewhere is running a stranger's program. So an engine is built where it runs, from the
very bytes whose hash the manifest gives, and kept in the user's cache (`cache.py`). Whatever
differs from what is wanted is built again, aloud. docs/engines.md tells the user's side.
"""
