"""One thread for torch: the networks are tiny, and threads of several tests would queue up."""

import torch

torch.set_num_threads(1)
