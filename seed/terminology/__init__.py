"""Codes the demo hospital uses: published ones, and the local systems and extensions of kernels 1.30."""
