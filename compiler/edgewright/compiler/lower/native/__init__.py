"""Lowers a graph to C of its own: fixed shapes, packed weights, fused operators, static memory, no interpreter.

graph --lowering--> Net --fusion--> Net --tile choice--> Kernels --source--> C + weights --toolchain--> model.so

`net.py` says what a layer is, `kernel.py` what a kernel family gives, `machine.py` what a target's instruction set is.
"""
