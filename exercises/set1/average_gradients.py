"""Exercise 1.9: averaging gradients over processes.

Under `mpirun -np 4 python ppo.py` four processes collect their own data, and must then take the
same step: along the mean of their gradients. Each process calls your function after
loss.backward() and before optimizer.step().

    python exercises/check.py average_gradients      (it starts two processes itself)

Afterwards, try to send all gradients in one message instead of one for each parameter: waiting for
a message to arrive costs more than the numbers in it.
"""

import torch
from mpi4py import MPI


def average_gradients(params):
    """Replaces p.grad, for each p of a list, by its mean over all processes of MPI.COMM_WORLD.

    Every process calls this with its own copies of the same parameters, which stay as they are.
    """
    raise NotImplementedError  # your code here
