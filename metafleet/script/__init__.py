"""Meta-learning from a script: any ``torch.nn.Module``, any loss, one process."""
