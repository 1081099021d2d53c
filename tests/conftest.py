"""One thread a process: tests run side by side, and waiting threads of torch hold each other up."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
